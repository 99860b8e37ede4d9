"""Where built models lie: a folder in the user's cache, each model under a name that its builder's source is part of.

What a reader would guess wrong: editing a builder's file builds its models anew, and what older sources built stays
until it is removed by hand, so that two checkouts do not disturb each other.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Feeds = dict[str, np.ndarray]
Build = Callable[[Path], None]


def folder() -> Path:
    """The folder of built models, made where it is not there yet."""
    base = Path(os.environ.get("GESHER_BENCH_CACHE") or
                Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gesher-bench")
    base.mkdir(parents=True, exist_ok=True)
    return base


def built(name: str, build: Build, version: str) -> Path:
    """The file that `build(path)` writes, from the cache where it was built before with that `version`."""
    path = folder() / f"{name}-{version}.onnx"
    if path.exists():
        return path
    # Whole or not at all: it is built aside and moved.
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder()) as aside:
        made = Path(aside) / "model.onnx"
        build(made)
        os.replace(made, path)
    return path


def version_of(*sources: Any) -> str:
    """A digest of what modules say, comments and layout aside, and of any strings."""
    text = "\0".join(s if isinstance(s, str) else ast.dump(ast.parse(inspect.getsource(s))) for s in sources)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def export_torch(path: Path, net: Any, example: Mapping[str, Any], outputs: Sequence[str], *, dynamo: bool,
                 dynamic: Mapping[str, Mapping[int, str]] | None = None) -> None:
    """Write a PyTorch module with PyTorch's own exporter, the newer (`dynamo`) or TorchScript's.

    Args:
        example: the inputs by name, in their order.
        dynamic: for inputs by name the names of their free dims.
    """
    import torch

    settings: dict[str, Any] = {"dynamo": dynamo}
    if dynamic and dynamo:
        dims: dict[str, Any] = {}
        settings["dynamic_shapes"] = tuple(
            {axis: dims.setdefault(d, torch.export.Dim(d)) for axis, d in dynamic.get(name, {}).items()}
            for name in example)
    elif dynamic:
        settings["dynamic_axes"] = dict(dynamic)
    else:
        settings["opset_version"] = 18 if dynamo else 17
    if dynamo:
        settings |= {"external_data": False, "optimize": True, "verbose": False}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            torch.onnx.export(net, tuple(example.values()), str(path), input_names=list(example),
                              output_names=list(outputs), **settings)
        finally:
            logging.disable(logging.NOTSET)


def export_gesher(path: Path, net: Any, example: Any) -> None:
    """Write a framework's object with gesher's own exporter."""
    import gesher

    gesher.save(gesher.export(net, example), path)


def package_file(package: str, pattern: str) -> Path:
    """A data file of an installed package, which is not imported.

    Raises:
        FileNotFoundError: the package is not here, or has no such file.
    """
    for base in sys.path:
        found = sorted((Path(base) / package).glob(pattern)) if base else []
        if found:
            return found[0]
    raise FileNotFoundError(f"{package}/{pattern}: install the package of that name (see ./dev)")


def copied(package: str, pattern: str) -> Build:
    """Builds by copying a package's file."""
    def build(path: Path) -> None:
        shutil.copyfile(package_file(package, pattern), path)
    return build
