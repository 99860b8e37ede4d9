"""The bridge between the file's messages and the graph, both ways.

    model = from_message(decode(ModelProto, source), source)
    message = to_message(model)

`reading` and `writing` do the work; `files` puts bytes on either end.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gesher.base.errors import GesherError
from gesher.codec.external import DataFile, Folder
from gesher.codec.wire import Source

from .graph import Model, Value
from .naming import assign_names
from .reading import Reader
from .writing import Writer

__all__ = ["from_message", "no_collection", "to_message"]


def from_message(message: Any, source: Source | None = None, *, folder: Path | None = None) -> Model:
    """The graph of a `ModelProto`.

    Args:
        message: as read from `source`, or made in memory (then without `source`).
        source: what it was read from; saving takes unedited bytes from there.
        folder: where external data lies, if not beside the file of `source`.

    Raises:
        ModelError: the message says what no graph can show; with its place.
    """
    home = Folder(folder / "model") if folder is not None else None
    if home is None and source is not None and source.path is not None:
        home = Folder(source.path)
    path = source.path if source is not None else None
    with no_collection():
        return Reader(source, home).model(message, path)


def to_message(model: Model, *, names: dict[Value, str] | None = None, data: DataFile | None = None,
               threshold: int = 1024, inline: bool = False) -> Any:
    """The `ModelProto` of a graph: what the graph says, no more; see `files` for the file's own bytes.

    Args:
        names: names of all values to be taken as they are; by default `naming` makes those that are missing.
        data, threshold: initializers of at least `threshold` bytes are laid out in this data file.
        inline: bring what lies in data files into the message.
    """
    try:
        with no_collection():
            names = assign_names(model)[0] if names is None else names
            return Writer(model, names, data=data, threshold=threshold, inline=inline).model()
    except GesherError as e:
        raise e.within(model.place) if model.path is not None else e from None


@contextmanager
def no_collection() -> Iterator[None]:
    """Pause the garbage collector while many objects are made that all stay: it would walk them again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            # To freeze and thaw puts what was made among the old objects at once, where else two walks over all of it
            # would. Not where someone has frozen objects, who wants them to stay so.
            if hasattr(gc, "freeze") and not gc.get_freeze_count():
                gc.freeze()
                gc.unfreeze()
            gc.enable()
