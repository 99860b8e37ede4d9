"""ImageDecoder: the bytes of an image file become pixels (height, width, channels).

Pillow decodes; it is an extra (`gesher[images]`). What cannot be decoded gives an image without pixels, as the operator
demands, not an error. Transparency is dropped, of several frames the first is taken, and 16-bit samples keep their
upper byte.
"""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError, RunError, UnsupportedError

from ..rules import InferNode, Run
from ..schema import Attr, Input, Output, op, tensors

Array = np.ndarray[Any, Any]

ImageDecoder = op("ImageDecoder", Input("encoded_stream", "T1"), Output("image", "T2"),
                  Attr("pixel_format", "string", "RGB"), since=20, T1=tensors("uint8"), T2=tensors("uint8"))

# The formats that the operator's text lists, by Pillow's names (PPM is all of PBM, PGM, PPM and PNM).
_FORMATS = ("BMP", "JPEG", "JPEG2000", "TIFF", "PNG", "WEBP", "PPM")
_CHANNELS = {"RGB": 3, "BGR": 3, "Grayscale": 1}
# What Pillow's decoders raise for bytes that are no image of theirs.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, LookupError, ArithmeticError, TypeError)


def _channels(pixel_format: str) -> int:
    if pixel_format not in _CHANNELS:
        raise ModelError(f"ImageDecoder: there is no pixel format {pixel_format!r}", rule="attribute-value",
                         advice="it is one of " + ", ".join(_CHANNELS))
    return _CHANNELS[pixel_format]


@ImageDecoder.infer
def _(node: InferNode) -> None:
    if node.rank(0) not in (None, 1):
        node.fail(f"the encoded stream is a vector of bytes, it has rank {node.rank(0)}")
    height, width = (node.fresh(f"the {side} stands in the image") for side in ("height", "width"))
    node.set(0, dtypes.UINT8, (height, width, _channels(node["pixel_format"])))


@ImageDecoder.reference
def image_decoder(stream: Array, *, pixel_format: str, run: Run) -> Array:
    channels = _channels(pixel_format)
    try:
        from PIL import Image
    except ImportError as e:
        raise UnsupportedError("ImageDecoder needs Pillow, which is not installed", who="reference",
                               advice="pip install 'gesher[images]'") from e
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(stream.tobytes()), formats=_FORMATS)
            # The header tells the size: a file of a few bytes may claim any.
            run.allow((image.height, image.width, channels), np.uint8)
            pixels = _pixels(image, pixel_format)
    except Image.DecompressionBombError as e:
        raise RunError(f"ImageDecoder: {e}", place=(run.node.place,)) from e
    except _BROKEN:
        return np.zeros((0, 0, channels), np.uint8)
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], channels))


def _pixels(image: Any, pixel_format: str) -> Array:
    from PIL import Image

    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    elif image.mode in ("RGBA", "LA", "PA", "P") and pixel_format == "Grayscale":
        image = image.convert("RGB")
    pixels = np.asarray(image.convert("L" if pixel_format == "Grayscale" else "RGB"))
    return pixels[:, :, ::-1] if pixel_format == "BGR" else pixels
