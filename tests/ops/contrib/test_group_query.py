"""GroupQueryAttention and RotaryEmbedding answer as ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import ms
from tests.ops.single_node import check

from gesher.base.errors import ModelError, UnsupportedError

RNG = np.random.default_rng(15)
N, G, H = 4, 2, 16
NEAR = {np.float32: {"rtol": 1e-4, "atol": 1e-5}, np.float16: {"rtol": 5e-3, "atol": 5e-3}}


def real(*shape: int, dtype: Any = np.float32) -> Any:
    return RNG.normal(0, 0.7, shape).astype(dtype)


def angles(most: int, half: int, dtype: Any = np.float32) -> tuple[Any, Any]:
    t = np.arange(most)[:, None] / 10.0 ** np.linspace(0, 2, half)
    return np.cos(t).astype(dtype), np.sin(t).astype(dtype)


def decode(length: int, pasts: list[int] | None, cache: int = 0, *, packed: bool = False, rotary: int = 0,
           bias: Any = None, sink: bool = False, dtype: Any = np.float32, outputs: int = 3, size: int = 16,
           **more: Any) -> Any:
    """A step of `length` tokens behind pasts of these lengths; None: the first."""
    batch = len(pasts or (0, 0))
    query = real(batch, length, (N + 2 * G) * size if packed else N * size, dtype=dtype)
    new: Any = (None, None)
    old: Any = (None, None)
    if not packed:
        new = [real(batch, length, G * size, dtype=dtype) for _ in range(2)]
    if pasts is not None:
        old = [real(batch, G, cache, size, dtype=dtype) for _ in range(2)]
    lengths = np.array([p + length - 1 for p in pasts or [0, 0]], np.int32)
    total = np.array(lengths.max() + 1, np.int32)
    caches = angles(32, rotary // 2, dtype) if rotary else (None, None)
    if bias:
        bias = real(*bias, length, int(total), dtype=dtype)
    return ms("GroupQueryAttention", query, *new, *old, lengths, total, *caches, None, bias,
              real(N, dtype=dtype) if sink else None, num_heads=N, kv_num_heads=G, do_rotary=int(bool(rotary)),
              outputs=outputs, **more)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("rotary", [0, H])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("length", "pasts", "cache"), [(5, None, 0), (1, [4, 4], 4), (1, [6, 3], 12), (3, [5], 9)])
def test_steps_of_a_decoder(length: int, pasts: Any, cache: int, packed: bool, rotary: int, dtype: Any) -> None:
    check(decode(length, pasts, cache, packed=packed, rotary=rotary, dtype=dtype), **NEAR[dtype], known=[6])


@pytest.mark.parametrize("step", [(6, None, 0), (1, [7, 4], 10)])
@pytest.mark.parametrize("options", [
    {"local_window_size": 3}, {"softcap": 2.5}, {"scale": 0.4}, {"smooth_softmax": 1}, {"sink": True},
    {"bias": (2, N)}, {"bias": (1, 1)}, {"rotary": H, "rotary_interleaved": 1}, {"rotary": 16, "size": 32},
    {"softcap": 2.5, "bias": (1, N), "local_window_size": 4, "sink": True}])
def test_options(options: Any, step: Any) -> None:
    # A sink or a smooth softmax has no composite yet.
    check(decode(*step, **options), known=[6], lowers=not ("sink" in options or "smooth_softmax" in options))


@pytest.mark.parametrize("shows", [1, 2])
def test_weights_come_out(shows: int) -> None:
    case = decode(4, None, 0, outputs=4, qk_output=shows)
    ours, theirs = case.reference()[3], case.onnxruntime()[3]
    seen = np.tril(np.ones((4, 4), bool))
    np.testing.assert_allclose(ours[..., seen], theirs[..., seen], rtol=1e-4, atol=1e-5)


def test_sizes_are_symbolic() -> None:
    check(decode(1, [4, 4], 4), known=[6], symbols={(0, 0): "b", (1, 0): "b", (2, 0): "b", (3, 0): "b",
                                                                  (4, 0): "b", (5, 0): "b"})


def test_what_is_not_there_is_refused() -> None:
    case = decode(4, None)
    case.attributes["k_quant_type"] = "PER_TENSOR"
    with pytest.raises(UnsupportedError, match="k_quant_type"):
        case.reference()
    case.attributes["num_heads"] = 5
    with pytest.raises(ModelError, match="5 heads of queries do not share 2"):
        case.infer()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("form", ["flat", "heads", "part", "offset"])
def test_rotary_embedding(form: str, interleaved: int, dtype: Any) -> None:
    heads, length, size = 3, 5, 16
    x = real(2, heads, length, size, dtype=dtype) if form == "heads" else real(2, length, heads * size, dtype=dtype)
    cos, sin = angles(20, size // 4 if form == "part" else size // 2, dtype)
    positions = np.array([3]) if form == "offset" else RNG.integers(0, 20, (2, length))
    part = {"num_heads": heads, "rotary_embedding_dim": size // 2} if form == "part" else {}
    check(ms("RotaryEmbedding", x, positions, cos, sin, interleaved=interleaved, **part), **NEAR[dtype],
          symbols={(0, 0): "b", (1, 0): "b"} if form != "offset" else {(0, 0): "b"})


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize(("form", "sections"), [("flat", [4, 2, 2]), ("heads", [2, 3, 3]), ("flat", [8, 0, 0])])
def test_rotary_embedding_of_three_positions(form: str, sections: Any, interleaved: int, layout: int,
                                             dtype: Any) -> None:
    heads, length, size = 3, 5, 16
    x = real(2, heads, length, size, dtype=dtype) if form == "heads" else real(2, length, heads * size, dtype=dtype)
    case = ms("MRotaryEmbedding", x, RNG.integers(0, 20, (3, 2, length)), *angles(20, size // 2, dtype),
              mrope_section=sections, mrope_layout=layout, interleaved=interleaved,
              num_heads=None if form == "heads" else heads)
    check(case, **NEAR[dtype], symbols={(0, 0): "b", (1, 1): "b"})


def test_sections_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match="mrope_section"):
        ms("MRotaryEmbedding", real(2, 5, 16), np.zeros((3, 2, 5), np.int64), *angles(20, 8),
           mrope_section=[4, 4, 4]).infer()
