"""Compiled models on disk: one folder each, named by what it was made from, checked before it is loaded.

    models/<key>/    model.c  model.so  meta.json
    kernels/<key>/   kernel.c  kernel.o  meta.json
    work/<...>/      entries being made; locks

`key` hashes sources, flags, compiler, processor and our version, so a change in any of these is another entry, and
nothing ever needs to be invalidated. An entry is made in `work/` and appears under its name by one
rename: half of one is never seen. Before an entry is given out, the sha256 of each of its files is compared with
`meta.json`; a damaged one is moved away and made again.

What a reader would guess wrong: the `weights.bin` of a session may be gigabytes, so it is hashed when it was made and
whenever its inode, size or times have changed since, but not at every load. `model.so` is hashed always, before
`dlopen` sees it. All entries are counted when their limit may be reached, and once an hour.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gesher

from ..base import knobs
from ..base.errors import CompileError
from . import private
from .private import existing_folder, private_folder

try:
    import fcntl
except ImportError:  # Windows has no flock: two processes may then make the same entry, and the first to finish wins
    fcntl = None  # type: ignore[assignment]

# Counts changes of what the artefacts look like to their loader.
ABI = 1
SOURCE, LIBRARY, WEIGHTS, META = "model.c", "model.so", "weights.bin", "meta.json"
KERNEL_SOURCE, KERNEL = "kernel.c", "kernel.o"
_COUNT = "bytes"    # in work/: how large all entries are together, and when they were last counted
_AT_ONCE = 1 << 20    # bytes of a file that is read whole: the buffer for pieces costs more than that
_STALE_AFTER = 3600.0  # seconds after which unfinished work whose maker is gone is cleared away


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder of entries of one kind: the files that they may have, `main` in any case."""

    name: str
    files: tuple[str, ...]
    main: str


MODELS = Shelf("models", (SOURCE, LIBRARY), LIBRARY)
KERNELS = Shelf("kernels", (KERNEL_SOURCE, KERNEL), KERNEL)


@dataclass(frozen=True, slots=True)
class Entry:
    """A compiled model on disk, verified. `meta["facts"]` is what its maker wished to remember."""

    folder: Path
    meta: dict[str, Any]

    @property
    def source(self) -> Path:
        return self.folder / SOURCE

    @property
    def library(self) -> Path:
        return self.folder / LIBRARY

    @property
    def kernel(self) -> Path:
        return self.folder / KERNEL

    @property
    def facts(self) -> dict[str, Any]:
        return self.meta["facts"]


def key_of(parts: Mapping[str, str | bytes]) -> str:
    """The name of an entry made from `parts` (sources, flags, compiler identity, CPU key...).

    Each part counts with its name, so that moving text from one part to another changes the key.
    """
    digest = hashlib.sha256(f"gesher {gesher.__version__} abi {ABI}".encode())
    for name in sorted(parts):
        value = parts[name]
        raw = value.encode() if isinstance(value, str) else value
        digest.update(f"\0{name}\0{len(raw)}\0".encode() + raw)
    return digest.hexdigest()


def get_or_build(key: str, make: Callable[[Path], dict[str, Any]], shelf: Shelf = MODELS) -> Entry:
    """The entry `key`; where it is missing or damaged, `make(folder)` makes it.

    `make` writes the shelf's files (its main one, and of the others those that it wants) into the empty folder it is
    given, and returns facts to be kept with the entry (anything JSON). It runs in one process at a time for a key;
    what it raises is passed on, and leaves nothing behind.

    Raises:
        PrivateFolderError: the cache folder is not this user's alone.
        CompileError: there is no room for the entry, even in a temporary folder.
    """
    entry = find(key, shelf)
    if entry is not None:
        return entry
    folder, work = private_folder(shelf.name), private_folder("work")
    try:
        return _build(key, make, shelf, folder, work)
    except OSError as error:
        # Read-only, full or vanished under us: the temporary folder takes its place, once.
        try:
            return _build(key, make, shelf, private.temporary_folder(shelf.name, error),
                          private.temporary_folder("work", error))
        except OSError as second:
            raise CompileError(f"there is no room for the compiled model: {second}",
                               advice=f"set {knobs.CACHE.name} to a folder with room") from second


def find(key: str, shelf: Shelf = MODELS) -> Entry | None:
    """The verified entry `key`, or None. A damaged entry counts as none (`get_or_build` replaces it)."""
    folder = existing_folder(shelf.name)
    if folder is None:
        return None
    return _open(folder / key, shelf)


def _build(key: str, make: Callable[[Path], dict[str, Any]], shelf: Shelf, models: Path, work: Path) -> Entry:
    _clear_stale(work)
    with _locked(work / f"{key[:32]}.lock"):
        # Another process may have made it while we waited.
        entry = _open(models / key, shelf)
        if entry is not None:
            return entry
        # mkdtemp makes it 0700. The process number in the name tells others whether its maker still lives.
        folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=work))
        try:
            facts = make(folder)
            _write_meta(folder, key, facts, shelf)
            _publish(folder, models / key, work, shelf)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    made = _open(models / key, shelf)
    if made is None:
        raise OSError(f"the entry {models / key} was damaged as soon as it was written")
    total = _grown(work, sum(told["bytes"] for told in made.meta["files"].values()))
    # A kernel is about to be linked into a model, whose own entry evicts what is too much.
    if shelf is not KERNELS and (total is None or total > knobs.CACHE_MB.number * 1_000_000):
        _evict(models, work, keep=key)
    return made


def _grown(work: Path, nbytes: int) -> int | None:
    """Bytes of all entries after one more of `nbytes`, as counted before; None where they were not, or long ago.

    The count is kept in a file of `work/` for an hour. Processes that write it at the same time may lose each other's
    share until it is counted anew.
    """
    file = work / _COUNT
    with contextlib.suppress(OSError, ValueError):
        counted, since = map(float, file.read_text().split())
        if time.time() - since < _STALE_AFTER:
            _write_count(work, counted + nbytes, since)
            return int(counted) + nbytes
    return None


def _write_count(work: Path, nbytes: float, since: float) -> None:
    with contextlib.suppress(OSError):    # then it is counted each time
        (work / _COUNT).write_text(f"{nbytes:.0f} {since:.0f}")


def _publish(folder: Path, final: Path, work: Path, shelf: Shelf) -> None:
    """Rename `folder` to `final`, moving a damaged entry away that stands there."""
    for _ in range(3):
        try:
            os.rename(folder, final)
            return
        except OSError:
            if not final.exists():
                raise
        if _open(final, shelf) is not None:  # somebody without locks was faster, and theirs is good
            return
        grave = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=work))
        with contextlib.suppress(FileNotFoundError):
            os.rename(final, grave / "damaged")
        shutil.rmtree(grave, ignore_errors=True)
    raise OSError(f"{final} cannot be replaced")


def _write_meta(folder: Path, key: str, facts: dict[str, Any], shelf: Shelf) -> None:
    files: dict[str, Any] = {}
    for name in shelf.files:
        path = folder / name
        if path.exists():
            files[name] = {"sha256": _sha256(path), "bytes": path.stat().st_size, "stamp": _stamp(path)}
    if shelf.main not in files:
        raise CompileError(f"the maker of the entry {key[:12]} left no {shelf.main}")
    text = json.dumps({"key": key, "abi": ABI, "files": files, "facts": facts}, indent=1)
    (folder / META).write_text(text)
    # Renames reach the disk in order only if the contents do first; a power cut would else leave empty files.
    for name in [*files, META]:
        with open(folder / name, "rb+") as opened:
            os.fsync(opened.fileno())


def _open(folder: Path, shelf: Shelf) -> Entry | None:
    """The entry in `folder` where it is whole, None where it is missing or damaged in any way."""
    # By strings and not by paths: a small session is loaded in the time in which some hundred paths are made.
    at = str(folder) + os.sep
    try:
        with open(at + META, "rb") as opened:
            meta = json.loads(opened.read())
        if meta["key"] != folder.name or meta["abi"] != ABI or shelf.main not in meta["files"]:
            return None
        for name, told in meta["files"].items():
            if os.stat(at + name).st_size != told["bytes"]:
                return None
            unchanged = name == WEIGHTS and told["stamp"] == _stamp(at + name)
            if not unchanged and _sha256(at + name) != told["sha256"]:
                knobs.debug(1, f"cache: {at}{name} is damaged; it will be made again")
                return None
        entry = Entry(folder, meta)
        entry.facts  # noqa: B018 - a missing field is damage too
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    # Its time is when it was used last, which is what eviction goes by. A read-only cache evicts nothing.
    with contextlib.suppress(OSError):
        os.utime(folder)
    return entry


def _evict(shelf: Path, work: Path, keep: str) -> None:
    """Remove what was used least recently, of every shelf, until all fit in `GESHER_CACHE_MB`; never `keep`."""
    limit = knobs.CACHE_MB.number * 1_000_000
    entries = []
    for folder in (f for each in shelf.parent.iterdir() if each.name != "work" and each.is_dir()
                   for f in each.iterdir() if f.is_dir() and (f / META).is_file()):
        with contextlib.suppress(OSError):  # another process may be evicting too
            size = sum(f.stat().st_size for f in folder.iterdir())
            entries.append((folder.stat().st_mtime, size, folder))
    total = sum(size for _, size, _ in entries)
    for _, size, folder in sorted(entries):
        if total <= limit:
            break
        if folder != shelf / keep:
            # Renamed first, so that nobody finds half of it. Who has it mapped keeps the mapping.
            grave = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=private_folder("work")))
            with contextlib.suppress(OSError):
                os.rename(folder, grave / "evicted")
                total -= size
            shutil.rmtree(grave, ignore_errors=True)
            knobs.debug(1, f"cache: {folder.name[:12]} evicted ({size / 1e6:.1f} MB)")
    _write_count(work, total, time.time())


def _clear_stale(work: Path) -> None:
    """Remove what interrupted makers left: their process is gone, or the work is older than any build takes."""
    for left in work.iterdir():
        with contextlib.suppress(OSError):
            age = time.time() - left.stat().st_mtime
            if left.is_dir():
                maker = left.name.split("-", 1)[0]
                if not (maker.isdigit() and _alive(int(maker))) or age > 24 * _STALE_AFTER:
                    shutil.rmtree(left, ignore_errors=True)
            elif age > _STALE_AFTER:
                left.unlink()


def _alive(process: int) -> bool:
    if not hasattr(os, "geteuid"):
        return True  # os.kill ends processes on Windows; age alone decides there
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; it is let go when the process dies. Some network folders have no locks: then none."""
    if fcntl is None:
        yield
        return
    with open(path, "a") as opened:
        with contextlib.suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_EX)
        os.utime(path)  # a lock in use is not stale
        yield


def _sha256(path: Path | str) -> str:
    with open(path, "rb") as opened:
        if os.fstat(opened.fileno()).st_size <= _AT_ONCE:
            return hashlib.sha256(opened.read()).hexdigest()
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _stamp(path: Path | str) -> list[int]:
    told = os.stat(path)
    return [told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns]
