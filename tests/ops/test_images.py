"""ImageDecoder: what was encoded comes back, and what is no image gives no pixels."""

import builtins
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.ops.single_node import Case, check, onnx_cases

from gesher import ModelError, RunError, UnsupportedError
from gesher.ops import Run, find

PIXELS = np.random.default_rng(2).integers(0, 256, (5, 7, 3), np.uint8)


def encoded(pixels: np.ndarray, kind: str, **options: Any) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return np.frombuffer(file.getvalue(), np.uint8)


def decode(stream: np.ndarray, pixel_format: str = "RGB") -> np.ndarray:
    case = Case("ImageDecoder", 20, [stream], {"pixel_format": pixel_format})
    check(case, "nobody", lowers=False, exact=False)
    return case.reference()[0]


@pytest.mark.parametrize(("case", "want", "rtol", "atol"), list(onnx_cases("ImageDecoder")), ids=str)
def test_onnx_cases(case: Case, want: Any, rtol: float, atol: float) -> None:
    check(case, want, rtol=rtol, atol=atol, lowers=False, exact=False)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_lossless_formats_come_back_exactly(kind: str) -> None:
    stream = encoded(PIXELS, kind)
    assert (decode(stream) == PIXELS).all()
    assert (decode(stream, "BGR") == PIXELS[..., ::-1]).all()
    assert decode(stream, "Grayscale").shape == (5, 7, 1)


def test_gray_files_have_three_equal_channels_as_colours() -> None:
    gray = PIXELS[..., 0]
    stream = encoded(gray, "PNG")
    assert (decode(stream) == gray[..., None]).all() and decode(stream).shape == (5, 7, 3)
    assert (decode(stream, "Grayscale")[..., 0] == gray).all()


def test_transparency_is_dropped_and_16_bits_keep_the_upper_byte() -> None:
    with_alpha = np.concatenate([PIXELS, PIXELS[..., :1]], 2)
    assert (decode(encoded(with_alpha, "PNG")) == PIXELS).all()
    deep = PIXELS[..., 0].astype(np.uint16) * 256 + 255
    assert (decode(encoded(deep, "PNG"), "Grayscale")[..., 0] == PIXELS[..., 0]).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
def test_what_cannot_be_decoded_has_no_pixels(kind: str) -> None:
    stream = encoded(PIXELS, kind)
    assert decode(stream[:len(stream) // 2]).shape == (0, 0, 3)
    assert decode(np.zeros(50, np.uint8), "Grayscale").shape == (0, 0, 1)
    assert decode(np.zeros(0, np.uint8)).shape == (0, 0, 3)


def test_formats_that_the_operator_does_not_list_have_no_pixels() -> None:
    assert decode(encoded(PIXELS, "GIF")).shape == (0, 0, 3)


def test_a_file_that_claims_to_be_huge_is_refused() -> None:
    header = np.frombuffer(b"P6\n60000 60000\n255\n" + bytes(100), np.uint8)
    with pytest.raises(RunError, match=r"budget|exceeds"):
        decode(header)


def test_unknown_pixel_formats_are_told() -> None:
    with pytest.raises(ModelError, match="no pixel format 'CMYK'"):
        decode(encoded(PIXELS, "PNG"), "CMYK")


def test_without_pillow_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **more: Any) -> Any:
        if name.startswith("PIL"):
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    operator = find("", "ImageDecoder")
    assert operator is not None
    rule = operator.rule("reference", 20)
    assert rule is not None
    with pytest.raises(UnsupportedError, match="Pillow"):
        rule.function(np.zeros(3, np.uint8), pixel_format="RGB", run=Run.__new__(Run))
