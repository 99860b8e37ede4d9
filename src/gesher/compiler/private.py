"""Folders for what we made and will load again: compiled models, probes, failed builds. Private to one user.

Code from these folders is loaded into the process, so a folder that somebody else owns or may write to is refused,
never repaired: what lies in it cannot be trusted. Where the cache folder cannot be written (read-only or full disk),
a temporary folder takes its place until the process ends, with one warning; what was compiled is then compiled anew
next time.
"""

from __future__ import annotations

import atexit
import errno
import os
import shutil
import stat
import tempfile
import warnings
from pathlib import Path

from ..base import knobs
from ..base.errors import GesherError


class PrivateFolderError(GesherError):
    """A folder that others own or may write to stands where ours should be."""


def private_folder(name: str) -> Path:
    """The writable folder `name` inside the cache folder, made with mode 0700 where it is missing.

    Where that is impossible, a temporary folder of this process.

    Raises:
        PrivateFolderError: somebody else owns it or may write to it.
    """
    root = knobs.cache_folder()
    folder = root / name
    try:
        for each in (root, folder):
            # Parents of the cache folder get the user's usual mode; ours are closed from the start.
            each.parent.mkdir(parents=True, exist_ok=True)
            try:
                each.mkdir(mode=0o700)
            except FileExistsError:
                require_private(each)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    except OSError as error:
        return temporary_folder(name, error)
    return folder


def existing_folder(name: str) -> Path | None:
    """The folder `name` inside the cache folder for reading, None where there is none. Raises as `private_folder`."""
    root = knobs.cache_folder()
    folder = root / name
    try:
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            return None
    except OSError:
        return None
    require_private(root)
    require_private(folder)
    return folder


def require_private(folder: Path) -> None:
    """Raise `PrivateFolderError` unless `folder` is a folder of this user that nobody else may write to."""
    told = folder.stat()
    advice = f"set {knobs.CACHE.name} to a folder of your own, or remove {folder}"
    if not stat.S_ISDIR(told.st_mode):
        raise PrivateFolderError(f"the cache folder {folder} is not a folder", advice=advice)
    if not hasattr(os, "geteuid"):  # Windows: the folder lies in the user's profile, whose access list is private
        return
    if told.st_uid != os.geteuid():
        raise PrivateFolderError(f"the cache folder {folder} belongs to user {told.st_uid}, not to us "
                                 f"({os.geteuid()}); code from it will not be loaded", advice=advice)
    if told.st_mode & 0o022:
        raise PrivateFolderError(f"the cache folder {folder} may be written by others (mode "
                                 f"{stat.S_IMODE(told.st_mode):04o}); code from it will not be loaded",
                                 advice=f"{advice}; or: chmod go-w {folder}, if you trust what is in it")


def temporary_folder(name: str, error: OSError) -> Path:
    """The folder `name` in a temporary folder that goes when the process ends; warns once, naming `error`."""
    cache = str(knobs.cache_folder())
    root = _TEMPORARY.get(cache)
    if root is None or not root.is_dir():
        root = _TEMPORARY[cache] = _temporary_root(cache, error)
    folder = root / name
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


# One for each cache folder that could not be written, so that there is one warning whatever failed in it.
_TEMPORARY: dict[str, Path] = {}


def _temporary_root(cache: str, error: OSError) -> Path:
    try:
        root = Path(tempfile.mkdtemp(prefix="gesher-"))
    except OSError as second:
        raise GesherError(f"neither the cache folder {cache} ({error}) nor a temporary folder ({second}) is writable",
                          advice=f"set {knobs.CACHE.name} to a folder with room") from second
    warnings.warn(f"compiled models are not kept: the cache folder {cache} cannot be written ({error}); "
                  f"using {root} until this process ends", RuntimeWarning, stacklevel=4)
    atexit.register(_remove, root, os.getpid())
    return root


def _remove(root: Path, owner: int) -> None:
    # A forked child inherits the exit handler, but the folder is still its parent's.
    if os.getpid() == owner:
        shutil.rmtree(root, ignore_errors=True)
