"""Data outside the model file: found, checked and mapped when a tensor is opened; written into one file on saving.

A model is data from a stranger, and the location that it names is a path. So only plain files are opened that really
lie in the model's real folder or below it: no absolute path, no `..`, no symlink that leads out, and no hardlink,
which may be anybody's file under another name. The model file itself may be reached through a symlink (download
caches do that); then the folder that it really lies in counts too.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TypeVar

from gesher.base.errors import GesherError, ModelError

from .file import source_of_fd
from .wire import Source

T = TypeVar("T")

# Where large tensors start in a file that we write, so that any system can map one by itself (Windows maps from
# multiples of 64 KiB); smaller ones start where vector instructions like it.
ALIGN_LARGE, LARGE = 1 << 16, 1 << 20
ALIGN_SMALL = 64

# Flags that not every system has.
_SAFELY = getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)


class Folder:
    """The real folder of a model, and the data files in it that were opened."""

    def __init__(self, model: Path):
        self.roots = tuple(dict.fromkeys((Path(os.path.realpath(model.parent)), Path(os.path.realpath(model)).parent)))
        self._open: dict[str, Source] = {}

    def path_of(self, location: str) -> Path:
        """The real path of a location.

        Raises:
            ModelError: it is outside the folder, or there is no such file.
        """
        parts = PurePosixPath(location.replace("\\", "/") if os.name == "nt" else location).parts
        if not location or "\0" in location:
            raise _refused(location, "is no name of a file")
        if location.startswith(("/", "\\")) or PureWindowsPath(location).drive:
            raise _refused(location, "is an absolute path")
        if ".." in parts or ".." in PureWindowsPath(location).parts:
            raise _refused(location, "leads out of the folder by '..'")
        try:
            path = Path(os.path.realpath(self.roots[0].joinpath(*parts), strict=True))
        except OSError as e:
            raise ModelError(f"the data file {location!r} cannot be opened: {e.strerror or e}", rule="external-data",
                             advice=f"it should be beside the model, in {self.roots[0]}") from e
        if not any(path.is_relative_to(root) for root in self.roots):
            raise _refused(location, "leads out of the folder by a symlink")
        return path

    def source(self, location: str) -> Source:
        """The data file of a location, mapped; one that is open already is not looked at again."""
        found = self._open.get(location)
        if found is None:
            path = self.path_of(location)
            # Look before opening: to open a FIFO or a device may hang or do something.
            self._check(location, os.stat(path, follow_symlinks=False))
            try:
                fd = os.open(path, os.O_RDONLY | _SAFELY)
            except OSError as e:
                raise ModelError(f"the data file {location!r} cannot be opened: {e.strerror or e}",
                                 rule="external-data") from e
            try:
                self._check(location, os.fstat(fd))
                found = self._open[location] = source_of_fd(fd, path)
            finally:
                os.close(fd)
        return found

    @staticmethod
    def _check(location: str, info: os.stat_result) -> None:
        if not stat.S_ISREG(info.st_mode):
            raise _refused(location, "is not a plain file")
        if info.st_nlink > 1:
            raise _refused(location, "is a hardlink, which may belong outside", "copy the file, and load again")

    def size(self, location: str) -> int:
        """The size of a data file, without opening it."""
        if location in self._open:
            return len(self._open[location])
        info = os.stat(self.path_of(location), follow_symlinks=False)
        self._check(location, info)
        return info.st_size


def _refused(location: str, why: str, advice: str | None = None) -> ModelError:
    return ModelError(f"the data file {location!r} {why}", rule="external-data",
                      advice=advice or "data must lie in the folder of the model or below it")


class ExternalData:
    """Where the numbers of one tensor lie: a stretch of a data file.

    Attributes:
        entries: the (key, value) pairs that the model gives, as they are.
        location, offset, length, checksum: what they say; length is None where they do not say.
        tensor: the tensor's name, for errors.
        needed: the bytes that dims and type ask for, or -1 where they cannot tell.
    """

    __slots__ = ("checksum", "entries", "folder", "length", "location", "needed", "offset", "tensor")

    def __init__(self, entries: Sequence[tuple[str, str]], folder: Folder | None, tensor: str = "", needed: int = -1):
        self.entries = tuple(entries)
        self.folder, self.tensor, self.needed = folder, tensor, needed
        given = dict(entries)
        self.location = given.get("location", "")
        self.checksum = given.get("checksum", "")
        self.offset = self._number(given.get("offset", "0"), "offset")
        self.length = self._number(given["length"], "length") if "length" in given else None

    def _number(self, text: str, key: str) -> int:
        # int() alone would take "+5", " 5 " and "1_000".
        if not (text.isascii() and text.isdigit() and len(text) < 20) or int(text) >> 63:
            raise ModelError(f"the {key} of the external data is {text!r}, not a number of bytes",
                             rule="external-data", place=self._place)
        return int(text)

    @property
    def _place(self) -> tuple[str, ...]:
        return (f"tensor '{self.tensor}'",) if self.tensor else ()

    def _span(self, size: int) -> tuple[int, int]:
        """Start and end in a file of `size` bytes."""
        length = self.length
        if length is None:
            # A file may say nothing of the length; then the dims do.
            length = self.needed if self.needed >= 0 else max(size - self.offset, 0)
        elif self.needed >= 0 and length != self.needed:
            raise ModelError(f"dims and type ask for {self.needed} bytes, the external data is said to have {length}",
                             rule="external-data", place=self._place)
        if self.offset + length > size:
            raise ModelError(f"the external data would reach from byte {self.offset} to {self.offset + length}, but "
                             f"{self.location!r} has {size}", rule="external-data", place=self._place,
                             advice="the data file is cut, or it belongs to another model")
        return self.offset, self.offset + length

    def _home(self) -> Folder:
        if self.folder is None:
            raise ModelError(f"the data is in the file {self.location!r}, but this model was not loaded from a folder",
                             rule="external-data", place=self._place, advice="load the model by its path")
        return self.folder

    def check(self) -> None:
        """Raise `ModelError` where the data cannot be there; nothing is opened."""
        self._in_place(lambda: self._span(self._home().size(self.location)))

    def view(self) -> memoryview:
        """The bytes, as a view of the mapped file.

        Raises:
            ModelError: the location is refused, the file is missing, or it is too short.
        """
        return self._in_place(self._view)

    def _view(self) -> memoryview:
        source = self._home().source(self.location)
        start, end = self._span(len(source))
        return source.view[start:end]

    def source(self) -> Source | None:
        """The data file, opened; None where the model was not loaded from a folder."""
        return None if self.folder is None else self._in_place(lambda: self._home().source(self.location))

    def verify(self) -> bool:
        """Whether the data file has the SHA-1 that the model gives; True where it gives none. Reads the whole file."""
        if not self.checksum:
            return True
        view = self._in_place(lambda: self._home().source(self.location).view)
        digest = hashlib.sha1(usedforsecurity=False)
        for i in range(0, len(view), 1 << 24):
            digest.update(view[i:i + (1 << 24)])
        return digest.hexdigest() == self.checksum.lower()

    def _in_place(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except GesherError as e:
            if not e.place:
                e.within(*self._place)
            raise


class DataFile:
    """The layout of a data file that is to be written: tensors behind one another, each at an aligned place."""

    def __init__(self, location: str):
        parts = PurePosixPath(location).parts
        if not parts or location.startswith(("/", "\\")) or ".." in parts or "\0" in location \
                or PureWindowsPath(location).drive:
            raise ModelError(f"{location!r} cannot be the name of a data file", rule="external-data",
                             advice="give a name relative to the model's folder, such as 'weights.data'")
        self.location = location
        self._size = 0
        self._parts: list[tuple[int, memoryview]] = []

    def add(self, view: memoryview) -> list[tuple[str, str]]:
        """Give the bytes of a tensor a place, and return the (key, value) pairs that say where."""
        align = ALIGN_LARGE if len(view) >= LARGE else ALIGN_SMALL
        offset = -(-self._size // align) * align
        self._parts.append((offset, view))
        self._size = offset + len(view)
        return [("location", self.location), ("offset", str(offset)), ("length", str(len(view)))]

    def __len__(self) -> int:
        return self._size

    def pieces(self) -> Iterator[memoryview | bytes]:
        """The content of the file, in order."""
        at = 0
        for offset, view in self._parts:
            if offset > at:
                yield bytes(offset - at)
            yield view
            at = offset + len(view)
