"""Hands a model to an engine that reads ONNX files: as bytes where it fits, else as files in a temporary folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gesher.ir import Model
from gesher.ir.files import save, to_bytes

# Other engines parse with protobuf, which stops at 2 GiB; well below it, weights go into a file of their own.
IN_MEMORY_LIMIT = 1 << 30


@contextmanager
def as_file_or_bytes(model: Model) -> Iterator[bytes | Path]:
    """The model as bytes, or, where it is large or its weights lie outside, as a file that is gone afterwards."""
    size = sum(v.constant.nbytes for g in model.graphs() for v in g.initializers if v.constant is not None
               and hasattr(v.constant, "nbytes"))
    if size < IN_MEMORY_LIMIT:
        yield to_bytes(model, external=False)
        return
    with tempfile.TemporaryDirectory(prefix="gesher-") as folder:
        path = Path(folder) / "model.onnx"
        save(model, path, external=True)
        yield path
