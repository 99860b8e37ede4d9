"""SparseAttention answers as ONNX Runtime's does, which wants the cache to go in and out in the same memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from tests.ops.contrib.nodes import MsCase, ms
from tests.ops.single_node import check, session

from gesher.base.errors import ModelError, RunError

RNG = np.random.default_rng(35)
N, G, BLOCK, ROOM = 4, 2, 16, 64
NEAR = {np.float32: {"rtol": 1e-4, "atol": 1e-5}, np.float16: {"rtol": 5e-3, "atol": 5e-3}}
# What each block of queries sees of four blocks of keys, in two layouts.
LAYOUTS = np.array([[[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1]],
                    [[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 0], [1, 0, 1, 1]]])
ALL = np.tril(np.ones((1, 4, 4), np.int64))


def stored(layouts: Any) -> tuple[Any, Any]:
    """Layouts row by row: where each row begins, and the columns that are seen, filled up with -1."""
    rows = np.concatenate([np.zeros((len(layouts), 1), np.int64), layouts.sum(2).cumsum(1)], 1).astype(np.int32)
    columns = np.full((len(layouts), int(layouts.sum((1, 2)).max())), -1, np.int32)
    for layout, row in zip(layouts, columns):
        found = np.nonzero(layout)[1]
        row[:len(found)] = found
    return rows, columns


def real(*shape: int, dtype: Any) -> Any:
    return RNG.normal(0, 0.7, shape).astype(dtype)


def step(length: int, lengths: Any, *, packed: bool = False, rotary: int = 0, layouts: Any = LAYOUTS,
         dtype: Any = np.float32, size: int = 16, **more: Any) -> MsCase:
    """`length` new tokens, behind which each sample has so many keys."""
    batch = len(lengths)
    query = real(batch, length, (N + 2 * G) * size if packed else N * size, dtype=dtype)
    new: Any = (None, None) if packed else [real(batch, length, G * size, dtype=dtype) for _ in range(2)]
    t = np.arange(ROOM)[:, None] / 10.0 ** np.linspace(0, 2, rotary // 2 or 1)
    caches = (np.cos(t).astype(dtype), np.sin(t).astype(dtype)) if rotary else (None, None)
    return ms("SparseAttention", query, *new, *(real(batch, G, ROOM, size, dtype=dtype) for _ in range(2)),
              *stored(layouts), np.array([max(lengths)], np.int32), np.array(lengths, np.int32), *caches,
              num_heads=N, kv_num_heads=G, sparse_block_size=BLOCK, do_rotary=int(bool(rotary)), outputs=3, **more)


def bound(case: MsCase) -> list[Any]:
    """What ONNX Runtime gives, with caches bound to the same memory on both sides."""
    ready = session(case.model().SerializeToString())
    io = ready.io_binding()
    for i, x in enumerate(case.inputs):
        if x is None:
            continue
        value = ort.OrtValue.ortvalue_from_numpy(x)
        io.bind_ortvalue_input(f"x{i}", value)
        if i in (3, 4):
            io.bind_ortvalue_output(f"y{i - 2}", value)
    io.bind_output("y0")
    ready.run_with_iobinding(io)
    return [o.numpy() for o in io.get_outputs()]


def theirs(case: MsCase) -> list[Any]:
    """ONNX Runtime's answers, sample by sample: with pasts of different lengths in one batch, it reads the weights of
    all but the first sample from a place where they were not written."""
    found = []
    for b in range(len(case.inputs[0])):
        own = [x if x is None or i in (5, 6, 7, 9, 10) else x[b:b + 1] for i, x in enumerate(case.inputs)]
        if case.inputs[0].shape[1] != case.inputs[7]:
            own[7] = own[8]
        present_key, present_value, y = bound(MsCase(case.op, 17, own, case.attributes, 3))
        found.append((y, present_key, present_value))
    return [np.concatenate(parts) for parts in zip(*found)]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("layouts", [LAYOUTS, LAYOUTS[:1], ALL])
@pytest.mark.parametrize(("length", "lengths"), [(50, [50, 50]), (1, [40, 17]), (1, [64]), (3, [35, 35])])
def test_steps_of_a_decoder(length: int, lengths: Any, layouts: Any, dtype: Any) -> None:
    case = step(length, lengths, layouts=layouts, dtype=dtype)
    check(case, theirs(case), **NEAR[dtype], known=[7])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("rotary", [16, 32])
@pytest.mark.parametrize("interleaved", [0, 1])
def test_positions_that_turn(interleaved: int, rotary: int, packed: bool) -> None:
    for length, lengths in ((40, [40, 40]), (1, [40, 33])):
        case = step(length, lengths, rotary=rotary, packed=packed, rotary_interleaved=interleaved, size=32, scale=0.3)
        check(case, theirs(case), **NEAR[np.float32], known=[7])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match="sparse_block_size is 8"):
        case = step(1, [9])
        case.attributes["sparse_block_size"] = 8
        case.infer()
    with pytest.raises(RunError, match="70 keys do not fit"):
        step(1, [70]).reference()
