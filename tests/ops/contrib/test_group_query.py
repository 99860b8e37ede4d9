"""GroupQueryAttention and RotaryEmbedding answer as ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import ms
from tests.ops.single_node import check

from gesher.base.errors import ModelError

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


def valid(outputs: Any, case: Any) -> list[Any]:
    """The result, and of the caches what holds keys: behind them stands what nobody promises."""
    y, *caches = outputs
    own = case.inputs[16] if len(case.inputs) > 16 else None
    rows = [r if own is None else r[:int(own[b])] for b, r in enumerate(y)]
    return [*rows, *(c[b, :, :int(n) + 1] for c in caches for b, n in enumerate(case.inputs[5]))]


def agree(case: Any, rtol: float, atol: float, lowers: bool = True) -> None:
    ours = case.reference()
    for a, b in zip(valid(ours, case), valid(case.onnxruntime(), case)):
        assert a.dtype == b.dtype
        # Counts of a cache may be off by one on a half.
        np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), rtol, atol if a.dtype.kind == "f" else 1)
    for fact, a in zip(case.infer(known=[6])[0], ours):
        assert fact.shape == a.shape
        assert fact.dtype.numpy == a.dtype
    if lowers:
        for a, b in zip(valid(ours, case), valid(case.lowered(known=[6]), case)):
            np.testing.assert_allclose(a.astype(np.float64), b.astype(np.float64), rtol, atol)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("kinds", [("PER_TENSOR", "PER_TENSOR"), ("PER_CHANNEL", "PER_CHANNEL")])
@pytest.mark.parametrize(("length", "pasts", "cache", "rotary"), [
    (1, [4, 4], 8, 0), (1, [6, 3], 12, H), (3, [5], 9, H)])
def test_a_quantised_cache(length: int, pasts: list[int], cache: int, rotary: int, kinds: Any, bits: int) -> None:
    case = decode(length, pasts, cache, rotary=rotary)
    inputs = [*case.inputs, *[None] * (14 - len(case.inputs))]
    shape = (len(pasts), G, cache, H * bits // 8)
    for i, kind in enumerate(kinds):
        inputs[3 + i] = RNG.integers(0, 256, shape).astype(np.uint8) if bits == 4 else \
            RNG.integers(-100, 100, shape).astype(np.int8)
        size = (1,) if kind == "PER_TENSOR" else (1, G, 1, H)
        inputs[12 + i] = RNG.uniform(0.1, 0.3, size).astype(np.float32) / (1 if bits == 4 else 10)
    case.inputs = inputs
    case.attributes.update(kv_cache_bit_width=bits, k_quant_type=kinds[0], v_quant_type=kinds[1])
    agree(case, 1e-3, 1e-3, lowers=False)


@pytest.mark.parametrize("rotary", [0, H])
@pytest.mark.parametrize(("own", "keys"), [([5, 3], [5, 3]), ([1, 4], [9, 6]), ([0, 2], [7, 2])])
def test_queries_that_are_filled_up(own: list[int], keys: list[int], rotary: int) -> None:
    case = decode(5, [11, 11], 16, rotary=rotary)
    inputs = [*case.inputs, *[None] * (17 - len(case.inputs))]
    inputs[5], inputs[6] = np.array(keys, np.int32) - 1, np.array(16, np.int32)
    inputs[16] = np.array(own, np.int32)
    case.inputs = inputs
    agree(case, 1e-4, 1e-5)


@pytest.mark.parametrize("rotary", [0, H])
@pytest.mark.parametrize(("length", "keys", "room", "window"), [
    (1, [5], 8, 4), (1, [9], 8, 4), (1, [13], 8, 4), (1, [20, 6], 8, 8), (5, [12], 8, 4), (11, [11], 6, 3),
    (1, [9, 31], 9, 3)])
def test_a_cache_of_a_window(length: int, keys: list[int], room: int, window: int, rotary: int) -> None:
    """Before, each sample had what it has now without the new tokens; the count alone tells what it held of that."""
    case = decode(length, [room] * len(keys), room, rotary=rotary, local_window_size=window, sliding_window_cache=1)
    inputs = list(case.inputs)
    inputs[5], inputs[6] = np.array(keys, np.int32) - 1, np.array(max(keys), np.int32)
    case.inputs = inputs
    ours, theirs = case.reference(), case.onnxruntime()
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-4, atol=1e-5)
    for a, b in zip(ours[1:], theirs[1:]):
        assert a.shape == b.shape
        for row, n in enumerate(keys):
            held = n if n <= room else n - (room - window + 1) * -(-(n - room) // (room - window + 1))
            np.testing.assert_allclose(a[row, :, :held], b[row, :, :held], rtol=1e-4, atol=1e-5)
    assert [f.shape for f in case.infer(known=[6])[0]] == [x.shape for x in ours[:3]]


@pytest.mark.parametrize("rotary", [0, H])
def test_norms_of_heads(rotary: int) -> None:
    """As if queries and keys were normed before. ONNX Runtime has them for GPUs only."""
    normed = decode(3, [5], 9, rotary=rotary)
    weights = real(H), real(H)
    normed.inputs = [*normed.inputs, *[None] * (14 - len(normed.inputs)), *weights]
    normed.attributes.update(qk_norm_epsilon=1e-3, k_norm_epsilon=1e-2)
    plain = decode(3, [5], 9, rotary=rotary)
    plain.inputs = list(normed.inputs[:14])
    for i, heads, epsilon, weight in ((0, N, 1e-3, weights[0]), (1, G, 1e-2, weights[1])):
        x = normed.inputs[i].reshape(1, 3, heads, H)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(epsilon)) * weight
        plain.inputs[i] = x.reshape(1, 3, -1).astype(np.float32)
    check(normed, plain.onnxruntime(), rtol=1e-4, atol=1e-5, known=[6])


def test_what_is_not_there_is_refused() -> None:
    case = decode(4, None)
    case.attributes["k_quant_type"] = "PER_TENSOR"
    with pytest.raises(ModelError, match="a quantised cache asks for past_key"):
        case.infer()
    with pytest.raises(ModelError, match="cannot be quantised"):
        case.reference()
    case = decode(4, None)
    case.attributes["sliding_window_cache"] = 1
    with pytest.raises(ModelError, match="sliding_window_cache asks for"):
        case.infer()
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
