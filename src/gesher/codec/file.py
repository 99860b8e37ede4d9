"""Files: opened without reading them, and written so that a good one is never replaced by half of another.

A large file is mapped, so opening it costs nothing, and what was read of it stays valid when a new file of the same
name is put in its place (also by `write_file` itself). Only a file that is changed in place, under the mapping, would
make nonsense of it; `check_unchanged` finds that out before anything is written from it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from gesher.base.errors import FormatError, ModelError

from .wire import Source

# Smaller files are read, which is as fast, and leaves nothing that could change under us.
MAP_FROM = 4 << 20
# What protobuf's readers take at most.
PROTOBUF_LIMIT = (1 << 31) - 1
_STRIDE = 1 << 26

Readable = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]


def open_source(file: Readable) -> Source:
    """The bytes of a path, of a binary file object, or of bytes themselves.

    Raises:
        FormatError: there is no such file, it is not a plain file, or it is empty.
    """
    if isinstance(file, (bytes, bytearray, memoryview)):
        return _not_empty(Source(bytes(file)))
    if isinstance(file, (str, os.PathLike)):
        return _not_empty(map_file(Path(file)))
    content = file.read()
    if not isinstance(content, bytes):
        raise FormatError(f"a model is read from a binary file, this one gives {type(content).__name__}",
                          advice="open it with mode 'rb'")
    return _not_empty(Source(content))


def _not_empty(source: Source) -> Source:
    if not len(source):
        raise FormatError("the file is empty", place=source.name, offset=0)
    return source


def map_file(path: Path) -> Source:
    """A plain file as a source: mapped when large. A FIFO or device is never opened, for that alone may hang."""
    try:
        _must_be_plain(path, os.stat(path).st_mode)
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as e:
        raise FormatError(f"cannot open the file: {e.strerror or e}", place=str(path)) from e
    except ValueError as e:
        raise FormatError(f"this is no path: {e}", place=repr(str(path))) from e
    try:
        return source_of_fd(fd, path)
    finally:
        os.close(fd)


def source_of_fd(fd: int, path: Path) -> Source:
    """The source over an open file, which may be closed afterwards."""
    info = os.fstat(fd)
    _must_be_plain(path, info.st_mode)
    stamp = stamp_of(info)
    try:
        if info.st_size < MAP_FROM:
            with open(fd, "rb", closefd=False) as f:
                return Source(f.read(), path, stamp)
        return Source(mmap.mmap(fd, 0, access=mmap.ACCESS_READ), path, stamp)
    except OSError as e:
        raise FormatError(f"cannot read the file: {e.strerror or e}", place=str(path)) from e


def stamp_of(info: os.stat_result) -> tuple[int, ...]:
    """Which file it is, and as of when: `Source.stamp`."""
    return (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns)


def _must_be_plain(path: Path, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"),
             (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))
    kind = next((name for test, name in kinds if test(mode)), "no plain file")
    raise FormatError(f"this is {kind}, not a file", place=str(path))


def check_unchanged(source: Source) -> None:
    """Raise `ModelError` where a mapped file was written to since it was opened."""
    if source.path is None or source.stamp is None or not isinstance(source.buf, mmap.mmap):
        return
    try:
        info = os.stat(source.path)
    except OSError:
        return  # The name is gone; the mapping keeps the content.
    now = stamp_of(info)
    if now[:2] == source.stamp[:2] and now != source.stamp:
        raise ModelError("the file was changed in place after it was opened", rule="file-changed",
                         place=str(source.path), advice="load the model again")


def write_file(file: str | os.PathLike[str] | IO[bytes], pieces: Iterable[bytes | memoryview]) -> int:
    """Write pieces one after another, and return how many bytes that made.

    A path gets them through a new file in the same folder that takes the place of the old one when it is whole and on
    the disk; permission bits stay. Whatever happens before, the old file stands.

    Raises:
        FormatError: the path cannot be written.
    """
    if not isinstance(file, (str, os.PathLike)):
        return _write(file, pieces)
    staged = Staged(Path(file))
    try:
        size = staged.write(pieces)
    except BaseException:
        staged.discard()
        raise
    staged.replace()
    return size


def _write(f: IO[bytes], pieces: Iterable[bytes | memoryview]) -> int:
    total = 0
    for piece in pieces:
        for i in range(0, len(piece), _STRIDE):
            part = piece if len(piece) <= _STRIDE else memoryview(piece)[i:i + _STRIDE]
            f.write(part)
            total += len(part)
    return total


class Staged:
    """A file that is written beside its target and takes its place at the end.

    `write`, then `replace`; or `discard`. Two of them can be made ready before either takes its place.
    """

    def __init__(self, target: Path):
        # Through a symlink the file is written that it points to; the link stays.
        self.target = Path(os.path.realpath(target))
        self._mode: int | None = None
        try:
            info: Any = os.stat(self.target)
        except FileNotFoundError:
            info = None
        except (OSError, ValueError) as e:
            raise FormatError(f"cannot write the file: {e}", place=str(target)) from e
        if info is not None:
            _must_be_plain(target, info.st_mode)
            self._mode = stat.S_IMODE(info.st_mode)
        # A long name is cut: the new one must not be too long where the old one just fitted.
        self.path = self.target.with_name(f".{self.target.name[:100]}.{secrets.token_hex(6)}.part")

    def write(self, pieces: Iterable[bytes | memoryview]) -> int:
        """Write the whole content and bring it to the disk."""
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
            with open(fd, "wb") as f:
                if self._mode is not None and hasattr(os, "fchmod"):
                    os.fchmod(fd, self._mode)
                total = _write(f, pieces)
                f.flush()
                os.fsync(fd)
        except OSError as e:
            raise FormatError(f"cannot write the file: {e.strerror or e}", place=str(self.target)) from e
        return total

    def replace(self) -> None:
        """Take the target's place."""
        try:
            os.replace(self.path, self.target)
        except OSError as e:
            self.discard()
            raise FormatError(f"cannot write the file: {e.strerror or e}", place=str(self.target)) from e
        # The folder's own entry reaches the disk too, where folders can be opened.
        with contextlib.suppress(OSError):
            fd = os.open(self.target.parent, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def discard(self) -> None:
        """Take the unfinished file away."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
