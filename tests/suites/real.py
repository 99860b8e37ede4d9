"""Models of real use with feeds of two sizes each, and how to hold any engine to ONNX Runtime on them.

    for case in CASES:
        for size in SIZES:
            hold(case, size, lambda feeds: session.run(feeds))

The files are data of the packages that the tests depend on; nothing of those packages is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tests.real_models import model_files

from gesher.evaluator.difference import Difference, difference

Feeds = dict[str, np.ndarray]
SIZES = (0, 1)


@dataclass(frozen=True)
class Case:
    """A model, what to feed it at each size, and how close its float outputs can be asked to lie.

    `atol` is absolute, for outputs whose scale is 1 (probabilities, states); it says how much rounding the model's
    depth gathers in float32 when sums are added up in another order.
    """

    name: str
    feeds: Callable[[int], Feeds]
    atol: float = 3e-5
    rtol: float = 1e-3
    path: Path = field(default=Path(), compare=False)

    def __str__(self) -> str:
        return self.name


def _page(n: int, height: int, width: int) -> np.ndarray:
    """Pictures of something like writing, dark strokes on light paper: (n,3,h,w) in [-1, 1], as OCR models want."""
    rng = np.random.default_rng(height * width + n)
    page = np.full((n, height, width), 0.9)
    for picture in page:
        for _ in range(max(4, width // 8)):
            y, x = int(rng.integers(2, height - 10)), int(rng.integers(2, width - 10))
            if rng.random() < 0.5:
                picture[y:y + int(rng.integers(4, 10)), x:x + 2] = 0.1
            else:
                picture[y:y + 2, x:x + int(rng.integers(4, 10))] = 0.1
    page = page + rng.normal(0, 0.02, page.shape)
    return np.repeat(((page - 0.5) / 0.5)[:, None], 3, 1).astype(np.float32)


def _voice(n: int, samples: int, rate: int) -> np.ndarray:
    """Sound with a pitch, overtones and some noise: (n,samples) in [-1, 1]."""
    rng = np.random.default_rng(samples + n)
    t = np.arange(samples) / rate
    pitch = rng.uniform(90, 240, (n, 1))
    wave = sum(np.sin(2 * np.pi * pitch * k * t + k) / k for k in range(1, 6))
    envelope = 0.5 - 0.5 * np.cos(2 * np.pi * np.minimum(1, t * rate / samples))
    return (0.3 * wave * envelope + rng.normal(0, 0.01, (n, samples))).astype(np.float32)


def _silero(size: int, rates: tuple[int, int] = (16000, 8000), batches: tuple[int, int] = (1, 3), sr: bool = True
            ) -> Feeds:
    rate, n = rates[size], batches[size]
    # 32 ms of sound, and before it the last eighth of the piece before.
    feeds: Feeds = {"input": _voice(n, 576 if rate == 16000 else 288, rate),
                    "state": np.random.default_rng(size).normal(0, 0.3, (2, n, 128)).astype(np.float32)}
    return {**feeds, "sr": np.array(rate, np.int64)} if sr else feeds


def _silero_sequence(size: int) -> Feeds:
    rng = np.random.default_rng(size)
    return {"input": _voice((3, 8)[size], 576, 16000),
            **{k: rng.normal(0, 0.3, (1, 1, 128)).astype(np.float32) for k in "hc"}}


_TABLE = (
    # Sixty layers and a sigmoid; probabilities of ink.
    Case("ch_PP-OCRv4_det_infer",   lambda s: {"x": _page(1, *((64, 96), (96, 160))[s])}, atol=1e-4),
    # Probabilities over 6625 characters behind a transformer.
    Case("ch_PP-OCRv4_rec_infer",   lambda s: {"x": _page(*((1, 48, 96), (2, 48, 160))[s])}, atol=1e-4),
    Case("ch_ppocr_mobile_v2.0_cls_infer", lambda s: {"x": _page(*((1, 48, 192), (3, 48, 96))[s])}, atol=1e-4),
    Case("silero_vad",              _silero),
    Case("silero_vad_16k_op15",     lambda s: _silero(s, (16000, 16000))),
    Case("silero_vad_16k_sequence", _silero_sequence),
    Case("silero_vad_half",         lambda s: _silero(s, (16000, 16000), sr=False)),
    Case("silero_vad_op18_ifless",  _silero),
    Case("silero_vad_openvino_16k", lambda s: _silero(s, (16000, 16000), (1, 1), sr=False)),
    # Convolutions over a constant-Q transform of two seconds at 22050 Hz. It takes logarithms of energies near zero and
    # scales them to their range: ONNX Runtime with and without its graph rewriting differs from itself by 6e-4.
    Case("nmp", lambda s: {"serving_default_input_2:0": _voice(s + 1, 43844, 22050)[..., None]}, atol=2e-3),
)


@cache
def cases() -> tuple[Case, ...]:
    """Every case whose file is on this machine, with its path."""
    paths = {p.stem: p for p in model_files("rapidocr_onnxruntime", "silero_vad", "basic_pitch")}
    return tuple(Case(c.name, c.feeds, c.atol, c.rtol, paths[c.name]) for c in _TABLE if c.name in paths)


@cache
def truth(case: Case, size: int) -> dict[str, np.ndarray]:
    """What ONNX Runtime answers, without its graph rewriting, which moves float sums about."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(case.path), options, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, case.feeds(size))))


def hold(case: Case, size: int, run: Callable[[Feeds], Mapping[str, Any]]) -> list[Difference]:
    """Hold what `run` answers to ONNX Runtime's; gives how far each output lies off.

    Raises:
        AssertionError: an output is missing, of another type or shape, or too far off.
    """
    want = truth(case, size)
    got = run(case.feeds(size))
    assert set(got) == set(want), f"{case}: outputs {sorted(got)}, wanted {sorted(want)}"
    found = [difference(got[n], want[n], rtol=case.rtol, atol=case.atol, output=n) for n in want]
    for d in found:
        assert d.ok, f"{case} at size {size}: {d}"
    return found
