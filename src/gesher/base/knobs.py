"""The environment variables that turn Gesher, one row each. Read when asked for, so tests can set them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from .errors import GesherError


@dataclass(frozen=True, slots=True)
class Knob:
    """One environment variable: its name, what it is when unset, what it does."""

    name: str
    default: str
    does: str

    @property
    def text(self) -> str:
        return os.environ.get(self.name, "") or self.default

    @property
    def number(self) -> int:
        try:
            return int(self.text)
        except ValueError:
            raise GesherError(f"{self.name}={self.text!r} is not a whole number",
                              advice=f"{self.name}: {self.does}") from None


KNOBS: tuple[Knob, ...] = (
    DEBUG := Knob("GESHER_DEBUG", "0", "1 stages and times · 2 kernels with times · 3 passes, rules that fired, "
                                       "and why others did not · 4 the C · 5 graph after each pass, as a diff · "
                                       "6 loop nests · 7 assembly; from 1 on the command line shows Python's traces "
                                       "too"),
    VERIFY := Knob("GESHER_VERIFY", "0", "1 the graph is verified before and after optimisation, and a lowering that "
                                         "trips is an error (else the node runs by its reference rule, and explain "
                                         "tells the fault) · 2 after each pass · 3 after each rule · 4 also holds what "
                                         "a rule makes against the reference, on random inputs"),
    STOP := Knob("GESHER_STOP", "0", "stop optimising after this many rewrites (0: at the fixed point)"),
    CACHE := Knob("GESHER_CACHE", "", "folder of compiled models (unset: gesher/ in the user's cache folder)"),
    CACHE_MB := Knob("GESHER_CACHE_MB", "4096", "compiled models above this many megabytes evict the oldest"),
    CC := Knob("GESHER_CC", "", "C compiler for the compiled engine (unset: the ziglang package, clang, cc, gcc)"),
    THREADS := Knob("GESHER_THREADS", "0", "threads of a session (0: the cores this process may use)"),
    BUDGET_MB := Knob("GESHER_BUDGET_MB", "8192", "the reference engine refuses to make a tensor above this size"),
)


def cache_folder() -> Path:
    """The folder of compiled models; it need not exist yet."""
    if CACHE.text:
        return Path(CACHE.text)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "gesher"


def debug(level: int, text: str) -> None:
    """Print `text` to stderr where `GESHER_DEBUG` is at least `level`."""
    if DEBUG.number >= level:
        print(text, file=sys.stderr)
