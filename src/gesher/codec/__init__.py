"""The file: bytes to messages and back, ONNX's text syntax, external data.

    source = open_source("model.onnx")          # mapped when large
    model = decode(ModelProto, source)          # messages; bytes of tensors are views of the file
    write_file("copy.onnx", encode_pieces(model))
"""

from .decode import decode
from .encode import encode, encode_pieces
from .file import open_source, write_file
from .wire import Numbers, Source

__all__ = ["Numbers", "Source", "decode", "encode", "encode_pieces", "open_source", "write_file"]
