"""How the command line speaks: answers to stdout, everything else to stderr, colours only on a terminal.

Exit codes: 0 all is well, 1 something was found wrong, 2 the command was used wrongly.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from rich.console import Console

FOUND_WRONG = 1


def out() -> Console:
    """The console of answers. Lines are not wrapped where nobody watches: a program may read them."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=not sys.stdout.isatty(),
                   width=None if sys.stdout.isatty() else 200)


def err() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str = "") -> None:
    """One line of an answer, as it is."""
    out().print(text, markup=False)


def json_text(data: Any) -> str:
    """Data as JSON. NaN and infinities, which JSON does not have, become strings; arrays lists."""
    def plain(x: Any) -> Any:
        if isinstance(x, float) and (x != x or x in (float("inf"), float("-inf"))):
            return str(x)
        if isinstance(x, dict):
            return {str(k): plain(v) for k, v in x.items()}
        if isinstance(x, (list, tuple)):
            return [plain(v) for v in x]
        if hasattr(x, "tolist"):
            return plain(x.tolist())
        return x

    return json.dumps(plain(data), indent=2, default=str)


def say_json(data: Any) -> None:
    """An answer for programs."""
    print(json_text(data))


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None,
          right: Sequence[int] = ()) -> None:
    """Print a table; `right` are the columns of numbers. Cells are plain text, never markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", show_edge=False, pad_edge=False)
    for i, h in enumerate(headers):
        made.add_column(h, justify="right" if i in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(c if isinstance(c, Text) else Text(str(c)) for c in row))
    out().print(made)


class Waiting:
    """A bar on stderr for work that takes longer than a second; gone when the work is done."""

    def __init__(self, after: float = 1.0):
        self.after = after
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._bar: Any = None
        self._at = ("", 0, 1)

    def __call__(self, what: str, done: int, total: int) -> None:
        with self._lock:
            self._at = (what, done, total)
            if done >= total:
                self._end()
            elif self._timer is None:
                self._timer = threading.Timer(self.after, self._show)
                self._timer.daemon = True
                self._timer.start()
            elif self._bar is not None:
                self._bar.update(self._task, completed=done, total=total)

    def _show(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        with self._lock:
            if self._timer is None:    # it ended meanwhile
                return
            what, done, total = self._at
            self._bar = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=err(),
                                 transient=True)
            self._task = self._bar.add_task(what, completed=done, total=total)
            self._bar.start()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def stop(text: str, code: int = FOUND_WRONG) -> NoReturn:
    """Say what is wrong, and end."""
    from rich.text import Text

    err().print(Text(text, style="red" if sys.stderr.isatty() else ""))
    raise SystemExit(code)


@contextmanager
def working(what: str) -> Iterator[Callable[..., None]]:
    """A sign of life on stderr while something takes its time, with the seconds that it took so far.

    Gives a function `tell(text, done=None)`: with `done`, a part of 1, there is a bar and the time that is left.
    """
    console = err()
    if not console.is_terminal:
        yield lambda text, done=None: None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(24), TimeElapsedColumn(),
               TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)

        def tell(text: str, done: float | None = None) -> None:
            progress.update(task, description=text, total=None if done is None else 1.0, completed=done or 0.0)

        yield tell


def human_bytes(n: float) -> str:
    """1536 -> '1.5 KB'."""
    for unit in ("B", "KB", "MB", "GB"):
        if abs(n) < 1024 or unit == "GB":
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} GB"


def human_time(seconds: float) -> str:
    """0.00012 -> '120 µs'."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns" if seconds == seconds else "-"
