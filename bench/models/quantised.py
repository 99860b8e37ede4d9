"""int8 models, made from float ones by ONNX Runtime's own quantiser, as its users make them."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .store import Build, Feeds


class _Few:
    """A calibration reader over a few feeds."""

    def __init__(self, feeds: list[Feeds]):
        self._left = iter(feeds)

    def get_next(self) -> Feeds | None:
        return next(self._left, None)


@contextlib.contextmanager
def _prepared(source: Path) -> Iterator[Path]:
    """The model as the quantiser wants it: shapes inferred, batch norms and biases folded."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    logging.disable(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "prepared.onnx"
            quant_pre_process(str(source), str(made), skip_symbolic_shape=True)
            yield made
    finally:
        logging.disable(logging.NOTSET)


def _varied(feeds: Feeds, seed: int) -> Feeds:
    """Feeds like these, shuffled."""
    rng = np.random.default_rng(seed)
    return {k: rng.permuted(v.reshape(-1)).reshape(v.shape) if v.dtype.kind == "f" else v for k, v in feeds.items()}


def static(source: Any, form: str) -> Build:
    """Statically quantised: "qdq" with signed activations and weights by channel, or "qoperator" with unsigned ones."""
    def build(path: Path) -> None:
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        feeds = source.feeds()
        with _prepared(source.path()) as prepared:
            quantize_static(str(prepared), str(path), _Few([feeds, _varied(feeds, 1)]),
                            quant_format=QuantFormat.QDQ if form == "qdq" else QuantFormat.QOperator,
                            activation_type=QuantType.QInt8 if form == "qdq" else QuantType.QUInt8,
                            weight_type=QuantType.QInt8, per_channel=form == "qdq")
    return build


def dynamic(source: Any) -> Build:
    """Dynamically quantised with the defaults."""
    def build(path: Path) -> None:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        with _prepared(source.path()) as prepared:
            quantize_dynamic(str(prepared), str(path), weight_type=QuantType.QUInt8)
    return build
