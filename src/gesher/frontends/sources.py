"""Where an exported object comes from: a file, or an object of a module."""

from __future__ import annotations

import importlib
import os
import stat
import sys
import warnings
from pathlib import Path
from typing import Any

from gesher.base.errors import FormatError, UnsupportedError

PICKLES = (".joblib", ".pkl", ".pickle")
# What libraries of boosted trees save: data, which no code in it runs.
BOOSTERS = (".json", ".ubj", ".txt")


def read_source(source: str, *, trust: bool = False) -> Any:
    """The object that `source` names: a pickle, joblib or skops file, a `.pt2` archive, a booster's file, or
    `module:object`.

    Loading a pickle runs the code in it. Files that somebody else could have written are refused unless `trust`. A
    `.skops` file is the safe way: it runs nothing, and types that skops does not know are refused unless `trust`.

    Raises:
        FormatError: the file is not what its name says.
        UnsupportedError: it is no kind of source that gesher knows, or it is not to be trusted.
    """
    path = Path(source)
    if path.suffix in PICKLES:
        return _read_pickle(path, trust)
    if path.suffix == ".skops":
        return _read_skops(path, trust)
    if path.suffix == ".pt2":
        return _read_pt2(path)
    if path.suffix in BOOSTERS:
        from .boosters.files import read_booster

        return read_booster(path)
    module, mark, name = source.rpartition(":")
    if mark and module and name and not path.exists():
        return _import(module, name)
    raise UnsupportedError(f"'{source}' is no source that gesher knows",
                           advice=f"give a file ({', '.join((*PICKLES, *BOOSTERS))}, .skops, .pt2) or module:object")


def read_example(path: Path | None) -> Any:
    """The arrays of an example file: one of `.npy`, a dictionary of `.npz`; None stays None."""
    if path is None:
        return None
    import numpy as np

    try:
        read = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as e:
        raise FormatError(f"the example is no .npy or .npz file of plain arrays: {e}", place=(str(path),)) from None
    return {k: read[k] for k in read.files} if isinstance(read, np.lib.npyio.NpzFile) else read


def _distrust(path: Path) -> str | None:
    """Why somebody other than this user may have written the file, or None."""
    if not hasattr(os, "getuid"):  # Windows tells ownership by other means, so the user must say it
        return "gesher cannot tell here who may write it"
    real = path.resolve()
    for place in (real, real.parent):
        info = place.stat()
        if info.st_uid not in (os.getuid(), 0):
            return f"{place.name} belongs to another user"
        # In a sticky folder such as /tmp others cannot replace one's files.
        if info.st_mode & stat.S_IWOTH and not (place.is_dir() and info.st_mode & stat.S_ISVTX):
            return f"everyone may write {place.name}"
    return None


def _read_pickle(path: Path, trust: bool) -> Any:
    if not path.is_file():
        raise FormatError("there is no such file", place=(str(path),))
    if not trust:
        why = _distrust(path)
        if why:
            raise UnsupportedError(f"{path.name} is a pickle, and loading one runs the code in it: {why}",
                                   place=(str(path),), advice="if you know where it comes from, say --trust")
        warnings.warn(f"loading {path.name} runs the code in it", stacklevel=3)
    try:
        import joblib
    except ImportError:
        import pickle

        joblib = None
    try:
        if joblib is not None:
            return joblib.load(path)
        with path.open("rb") as f:
            return pickle.load(f)
    except ModuleNotFoundError as e:
        raise UnsupportedError(f"{path.name} needs the package '{e.name}', which is not installed",
                               place=(str(path),)) from e
    except Exception as e:
        raise FormatError(f"{path.name} cannot be unpickled: {type(e).__name__}: {e}", place=(str(path),)) from e


def _read_skops(path: Path, trust: bool) -> Any:
    if not path.is_file():
        raise FormatError("there is no such file", place=(str(path),))
    try:
        import skops.io
    except ImportError:
        raise UnsupportedError(f"{path.name} needs the package 'skops', which is not installed", place=(str(path),),
                               advice="pip install skops") from None
    try:
        strangers = skops.io.get_untrusted_types(file=path)
        if strangers and not trust:
            raise UnsupportedError(f"{path.name} holds types that are not known to be harmless: {', '.join(strangers)}",
                                   place=(str(path),), advice="if you know where it comes from, say --trust")
        return skops.io.load(path, trusted=strangers)
    except UnsupportedError:
        raise
    except ModuleNotFoundError as e:
        raise UnsupportedError(f"{path.name} needs the package '{e.name}', which is not installed",
                               place=(str(path),)) from e
    except Exception as e:
        raise FormatError(f"{path.name} is no skops file that skops {skops.__version__} reads: "
                          f"{type(e).__name__}: {e}", place=(str(path),)) from e


def _read_pt2(path: Path) -> Any:
    if not path.is_file():
        raise FormatError("there is no such file", place=(str(path),))
    try:
        import torch
    except ImportError:
        raise UnsupportedError(f"{path.name} needs PyTorch, which is not installed", place=(str(path),),
                               advice="pip install torch") from None
    try:
        return torch.export.load(str(path))
    except Exception as e:
        raise FormatError(f"{path.name} is no .pt2 archive that PyTorch {torch.__version__} reads: "
                          f"{type(e).__name__}: {e}", place=(str(path),)) from e


def _import(module: str, name: str) -> Any:
    # As `python -m` does: modules of the folder that one stands in are found.
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as e:
        raise UnsupportedError(f"there is no module '{e.name}' to import '{module}:{name}' from") from e
    except Exception as e:
        raise UnsupportedError(f"the module '{module}' fails when it is imported: {type(e).__name__}: {e}",
                               place=(_where(e),)) from e
    for part in name.split("."):
        if not hasattr(found, part):
            raise UnsupportedError(f"the module '{module}' has no '{name}'")
        found = getattr(found, part)
    return found


def _where(error: Exception) -> str:
    """`file.py:12`, the line that raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
