"""The faces of models: what a kept session needs of the file of its model, so that the file need not be read.

    faces/<key>/   face.json  meta.json

`key` names the file by its path, identity, size and times, beside all that names a session but the model itself
(`frozen.told`). The face tells the session that was kept for it, the data files and their stamps, and what the model
takes and gives. A session that must plan after all reads the file then.

What a reader would guess wrong: a file that had been written seconds before it was read gets no face yet. It may have
been written again within one tick of its file system's clock, and look the same; the next session made of it leaves
one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gesher.base import dtypes, knobs
from gesher.base.errors import GesherError, ModelError
from gesher.codec.file import stamp_of
from gesher.ir import Graph, Model, TensorType, Value
from gesher.ir.files import load, tensors_of
from gesher.ir.storages import ExternalStorage

from . import cache, frozen
from .written import Symbols

FACE = "face.json"
FACES = cache.Shelf("faces", (FACE,), FACE)
# Nanoseconds after which a file that is written again has another time: the coarsest clock (FAT) has 2 s.
_SETTLED = 3_000_000_000

Stamp = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Face:
    """A model as its session sees it.

    Attributes:
        model: with inputs, outputs and metadata, and no nodes.
        key: of the session that was kept for it.
        path, stamp: of its file.
    """

    model: Model
    key: str
    path: Path
    stamp: Stamp

    def read(self) -> Model:
        """The whole model.

        Raises:
            ModelError: the file is another by now.
        """
        model = load(self.path)
        if _source_of(model) != (self.path, self.stamp):
            raise ModelError("the file was changed since the session was made of it", rule="file-changed",
                             place=self.path.name, advice="make the session again")
        return model


def keep(model: Model, session_key: str, told: Mapping[str, str], opened: int) -> bool:
    """Leave the face of a model, exactly as its file holds it, whose session was kept; whether there is one now.

    Args:
        opened: when its file was, in nanoseconds of `time.time_ns`, or earlier.
        told: what names the session beside its model (`frozen.told`).
    """
    found = _source_of(model)
    if found is None or not session_key or cache.find(session_key, frozen.SESSIONS) is None:
        return False
    path, stamp = found
    files = _data_files(model)
    written = _written(model)
    if written is None or files is None or any(_recent(s, opened) for s in (stamp, *files.values())):
        return False
    written |= {"session": session_key, "files": [[os.path.abspath(f), list(s)] for f, s in files.items()]}

    def make(folder: Path) -> dict[str, Any]:
        (folder / FACE).write_text(json.dumps(written), encoding="utf-8")
        return {}

    cache.get_or_build(_key(path, stamp, told), make, FACES)
    return True


def find(path: Path, told: Mapping[str, str]) -> Face | None:
    """The face of the model in a file, as the file is now; None where none was left."""
    stamp = _stamp(path)
    entry = None if stamp is None else cache.find(_key(path, stamp, told), FACES)
    if entry is None or stamp is None:
        return None
    try:
        face = json.loads((entry.folder / FACE).read_text(encoding="utf-8"))
        if any(_stamp(file) != tuple(s) for file, s in face["files"]):
            return None
        return Face(_read(face, path), face["session"], path, stamp)
    except (OSError, ValueError, KeyError, IndexError, TypeError, GesherError) as e:
        knobs.debug(1, f"the face of {path.name} cannot be used, the file is read: {e}")
        return None


def _key(path: Path, stamp: Stamp, told: Mapping[str, str]) -> str:
    return cache.key_of({**told, "file": os.path.abspath(path), "stamp": " ".join(map(str, stamp))})


def _source_of(model: Model) -> tuple[Path, Stamp] | None:
    """The file that a model was loaded from, and its stamp as it was opened."""
    source = model.kept[0] if model.kept else None
    if model.path is None or source is None or source.path is None or source.stamp is None:
        return None
    return model.path, source.stamp


def _stamp(path: Path | str) -> Stamp | None:
    """As `codec.file` stamps what it opens."""
    try:
        return stamp_of(os.stat(path))
    except (OSError, ValueError):
        return None


def _recent(stamp: Stamp, opened: int) -> bool:
    return opened - stamp[-1] < _SETTLED


def _data_files(model: Model) -> dict[Path, Stamp] | None:
    """The data files with their stamps as they were opened; None where one has none."""
    found: dict[Path, Stamp] = {}
    for tensor in tensors_of(model):
        if isinstance(tensor.storage, ExternalStorage):
            source = tensor.storage.data.source()
            if source is None or source.path is None or source.stamp is None:
                return None
            found[source.path] = source.stamp
    return found


def _written(model: Model) -> dict[str, Any] | None:
    """What the model takes and gives, as JSON; None for what has no such form (defaults, other types than tensors)."""
    graph, symbols = model.graph, Symbols()
    if any(v.constant is not None for v in graph.inputs):
        return None
    ports = [[_port(v, symbols) for v in values] for values in (graph.inputs, graph.outputs)]
    if any(p is None for side in ports for p in side):
        return None
    return {"ir_version": model.ir_version, "opsets": model.opsets, "metadata": model.metadata, "graph": graph.name,
            "inputs": ports[0], "outputs": ports[1], "fed": [v.name for v in graph.outputs if v in graph.inputs],
            "symbols": symbols.table}


def _port(v: Value, symbols: Symbols) -> list[Any] | None:
    if not isinstance(v.type, TensorType):
        return None
    shape = v.type.shape
    return [v.name, v.type.dtype.name,
            None if shape is None else [None if d is None else [symbols.code(d)] for d in shape]]


def _read(face: Mapping[str, Any], path: Path) -> Model:
    symbols = Symbols(face["symbols"])

    def value(port: Sequence[Any]) -> Value:
        name, dtype, shape = port
        dims = None if shape is None else tuple(None if d is None else symbols.decode(d[0]) for d in shape)
        return Value(name, TensorType(dtypes.BY_NAME[dtype], dims))

    inputs = [value(p) for p in face["inputs"]]
    known = {v.name: v for v in inputs if v.name in face["fed"]}
    for port in face["outputs"]:
        known.setdefault(port[0], value(port))
    graph = Graph(face["graph"], inputs=inputs, outputs=[known[port[0]] for port in face["outputs"]])
    return Model(graph, opsets=face["opsets"], ir_version=face["ir_version"], metadata=face["metadata"], path=path)
