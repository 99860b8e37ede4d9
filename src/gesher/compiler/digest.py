"""A name for what a model computes: equal models get the same one, whichever process asks.

Structure counts node by node. Tensors of a file count by where they lie in it, with the file's identity, size and
times, so that gigabytes need not be read to know that nothing changed; tensors in memory count by their bytes. What a
reader would guess wrong: two copies of a file have different names, which costs a compilation and never a wrong answer.
"""

from __future__ import annotations

import hashlib
import os
import re
from functools import cache
from typing import Any

import numpy as np

import gesher
from gesher.base import dtypes
from gesher.ir import Graph, Model, SparseTensor, Tensor, Value
from gesher.ir.attributes import Attribute
from gesher.ir.storages import ExternalStorage
from gesher.ir.tensor import RawStorage

# Sizes without a name are numbered anew in each process.
_ANONYMOUS = re.compile(r"\?\d+")
# Packages that nothing a session is made of may import (`tests/test_layers.py` sees to it).
APART = ("cli", "frontends", "server", "viewer")


def digest(model: Model) -> str:
    """The name of a model, 64 hexadecimal digits."""
    return _Digest(model).run()


@cache
def house() -> str:
    """A name for Gesher itself as it lies on disk: what it compiled before it was changed is not used again.

    Where an installer put it, that is what the installer wrote down, the sums of all files; a file that is changed
    under the installer's hands afterwards is not noticed. A checkout is walked, for it changes with every edit.
    """
    # The folder of the package. In an archive there is nothing to walk, and the archive's own file stands for it.
    root = os.path.dirname(gesher.__file__)
    told = hashlib.sha256(_recorded(root) or _walked(root if os.path.isdir(root) else os.path.dirname(root)))
    return told.hexdigest()


def _recorded(root: str) -> bytes:
    """What the installer wrote of the package in the folder `root`; nothing where none did."""
    try:
        with open(os.path.join(os.path.dirname(root), f"gesher-{gesher.__version__}.dist-info", "RECORD"), "rb") as f:
            record = f.read()
    except OSError:
        return b""
    # One for a package that lies elsewhere names none of its files.
    return record if b"gesher/compiler/digest.py,sha256=" in record else b""


def _walked(root: str) -> bytes:
    """Sizes and times of all that may count, in the folder `root`, or of that file."""
    seen, skipped = [], {"__pycache__", *APART}
    pending = [root]
    if os.path.isfile(root):
        seen.append(("", *_size_and_time(pending.pop())))
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.name.endswith((".py", ".h", ".c", ".inc")):
                    seen.append((entry.path, *_size_and_time(entry.path)))
                elif entry.is_dir() and entry.name not in skipped:
                    pending.append(entry.path)
    seen.sort()
    return repr(seen).replace(root, "").encode("utf-8", "surrogateescape")


def _size_and_time(path: str) -> tuple[int, int]:
    stat = os.stat(path)
    return stat.st_size, stat.st_mtime_ns


class _Digest:
    def __init__(self, model: Model):
        self.model, self.told = model, hashlib.sha256()
        self.numbers: dict[Value, int] = {}
        self.sizes: dict[str, str] = {}

    def run(self) -> str:
        model = self.model
        self.say("model", model.ir_version, sorted(model.opsets.items()))
        for key, function in sorted(model.functions.items()):
            self.say("function", key, sorted(function.opsets.items()), function.attributes)
            for name, default in sorted(function.defaults.items()):
                self.say(name)
                self.attribute(default)
            self.graph(function)
        self.graph(model.graph)
        return self.told.hexdigest()

    def say(self, *words: Any) -> None:
        text = _ANONYMOUS.sub(lambda m: self.sizes.setdefault(m[0], f"?{len(self.sizes)}"), repr(words))
        self.told.update(text.encode("utf-8", "surrogateescape") + b"\0")

    def number(self, v: Value | None) -> int:
        return -1 if v is None else self.numbers.setdefault(v, len(self.numbers))

    def value(self, v: Value) -> None:
        self.say("value", self.number(v), v.name, str(v.type))

    def graph(self, graph: Graph) -> None:
        self.say("graph", graph.name, len(graph.inputs), len(graph.outputs))
        for v in graph.inputs:
            self.value(v)
        for v in graph.initializers:
            self.value(v)
            self.constant(v.constant)
        for node in graph.nodes:
            self.say(node.domain, node.op_type, node.overload, node.name, list(map(self.number, node.inputs)),
                     list(map(self.number, node.outputs)))
            for o in node.outputs:
                if o is not None:
                    self.value(o)
            for name, a in sorted(node.attributes.items()):
                self.say(name)
                self.attribute(a)
        self.say("gives", list(map(self.number, graph.outputs)), [v.name for v in graph.outputs])

    def attribute(self, a: Attribute) -> None:
        self.say(int(a.kind), a.ref)
        self.constant(a.value)

    def constant(self, value: Any) -> None:
        if isinstance(value, Tensor):
            self.tensor(value)
        elif isinstance(value, SparseTensor):
            self.say("sparse", tuple(value.shape))
            self.tensor(value.values)
            self.tensor(value.indices)
        elif isinstance(value, Graph):
            self.graph(value)
        elif isinstance(value, (tuple, list)):
            self.say(len(value))
            for v in value:
                self.constant(v)
        else:
            self.say(type(value).__name__, str(value) if not isinstance(value, (bytes, float)) else value)

    def tensor(self, tensor: Tensor) -> None:
        self.say("tensor", tensor.dtype.name, tensor.shape)
        place = self.place_of(tensor)
        if place is not None:
            self.say(*place)
        elif tensor.dtype is dtypes.STRING:
            self.say(tensor.numpy().ravel().tolist())
        else:
            self.told.update(tensor.raw())

    def place_of(self, tensor: Tensor) -> tuple[Any, ...] | None:
        """Where the numbers lie in a file, and which file that is; None where they are in memory."""
        storage = tensor.storage
        if isinstance(storage, ExternalStorage):
            opened = storage.data.source()
            return None if opened is None else (opened.stamp, storage.data.offset, storage.data.length)
        source = self.model.kept[0] if self.model.kept else None
        if not isinstance(storage, RawStorage) or source is None or source.stamp is None:
            return None
        view = memoryview(storage.view)
        if view.obj is not source.buf or not view.nbytes:
            return None
        return (source.stamp, _address(view) - _address(source.view), view.nbytes)


def _address(view: memoryview) -> int:
    address: int = np.frombuffer(view, np.uint8).__array_interface__["data"][0]
    return address

