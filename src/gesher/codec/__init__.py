"""The file: bytes to messages and back, ONNX's text syntax, external data.

    source = open_source("model.onnx")          # mapped when large
    model = decode(ModelProto, source)          # messages; bytes of tensors are views of the file
    write_file("copy.onnx", encode_pieces(model))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .decode import decode
from .encode import encode, encode_pieces
from .file import open_source, write_file
from .wire import Numbers, Source

if TYPE_CHECKING:
    from .text import to_text

__all__ = ["Numbers", "Source", "decode", "encode", "encode_pieces", "open_source", "to_text", "write_file"]


def __getattr__(name: str) -> Any:
    # The text syntax is rarely needed, and opening a model should not wait for it.
    if name != "to_text":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .text import to_text

    return to_text
