"""The root of the command line. A verb's file is imported only when the verb is called, so `--help` is quick."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module

import click

# Verb, and what it does in a line. Its command is `command` in gesher.cli.<verb>.
VERBS: dict[str, str] = {
    "show": "What a model is: inputs, outputs, operators, weights, metadata.",
    "check": "Every fault of a model, each with place, rule and advice.",
    "export": "From scikit-learn or PyTorch to ONNX, verified against the source.",
    "run": "Run a model on an engine.",
    "compare": "The same inputs through several engines, held side by side.",
    "bench": "Time a model on several engines, interleaved.",
    "engines": "Which engines are here, and why others are not.",
    "ops": "The operators that gesher knows, and who runs them.",
}


class Verbs(click.Group):
    """A group whose commands are looked up in `VERBS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        command: click.Command = import_module(f"gesher.cli.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="gesher", prog_name="gesher")
def root() -> None:
    """Gesher carries machine-learning models between frameworks and engines in one language, ONNX.

    \b
    Example:
      gesher export model.joblib -o model.onnx
      gesher compare model.onnx --engines reference,compiled,onnxruntime

    Exit codes: 0 all is well, 1 something was found wrong, 2 wrong use.
    """


def main() -> None:
    """The entry point `gesher`."""
    from gesher.base.errors import GesherError

    # As a remark to who called, not as a line of our source.
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        with waiting():
            root(prog_name="gesher")
    except BrokenPipeError:
        # The reader went away (`gesher show model | head`); Python would complain once more while shutting down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except (GesherError, OSError, MemoryError) as e:
        from .console import stop

        if os.environ.get("GESHER_DEBUG", "0") not in ("", "0"):
            raise
        stop(told(e))


def waiting() -> AbstractContextManager[None]:
    """Show how far long work is, where somebody watches."""
    if not sys.stderr.isatty():
        return nullcontext()
    from gesher.base.progress import listening

    from .console import Waiting

    return listening(Waiting())


def told(error: BaseException) -> str:
    """An error as the command line says it: its kind first; of the system's, the file and what it would not do."""
    if isinstance(error, OSError) and error.strerror:
        named = f"{error.filename}: " if error.filename is not None else ""
        return f"{type(error).__name__}: {named}{error.strerror}"
    return f"{type(error).__name__}: {error}"
