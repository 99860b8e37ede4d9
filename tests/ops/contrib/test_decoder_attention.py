"""DecoderMaskedMultiHeadAttention answers as ONNX Runtime does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.ops.contrib.nodes import ms
from tests.ops.single_node import check

from gesher.base.errors import ModelError

RNG = np.random.default_rng(17)
B, N, H, ROOM, PAST = 4, 3, 8, 7, 4
D = N * H
OP = "DecoderMaskedMultiHeadAttention"


def real(*shape: int) -> Any:
    return RNG.normal(0, 0.7, shape).astype(np.float32)


def step(*, mask: bool = False, bias: bool = False, added: tuple[int, int] | None = None, beams: int = 0,
         outputs: int = 3, **more: Any) -> Any:
    ones = np.ones((B, PAST + 1), np.int32)
    ones[1, :2] = 0
    beam = (np.array([beams], np.int32), RNG.integers(0, beams, (B // beams, beams, ROOM)).astype(np.int32)) \
        if beams else (None, None)
    return ms(OP, real(B, 1, D), real(B, 1, D), real(B, 1, D), ones if mask else None,
              real(*added, 1, PAST + 1) if added else None, real(B, N, ROOM, H), real(B, N, ROOM, H),
              np.array([PAST], np.int32), *beam, real(3 * D) if bias else None, num_heads=N,
              past_present_share_buffer=1, outputs=outputs, **more)


@pytest.mark.parametrize("bias", [False, True])
def test_a_step_with_a_shared_buffer(bias: bool) -> None:
    check(step(bias=bias), symbols={(i, 0): "b" for i in (0, 1, 2, 5, 6)})
    check(step(bias=bias, scale=0.2))


@pytest.mark.parametrize("added", [None, (1, N), (1, 1)])
def test_masks_and_biases_of_the_scores(added: Any) -> None:
    check(step(mask=True, added=added, mask_filter_value=-1000.0), lowers=False)


@pytest.mark.parametrize("beams", [2, 4])
def test_beams_share_their_cache(beams: int) -> None:
    check(step(beams=beams), lowers=False)


def test_the_scores_come_out() -> None:
    check(step(mask=True, outputs=4, output_qk=1), rtol=1e-3, atol=1e-3, known=[7], lowers=False)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_keys_of_another_sequence(bias: bool, mask: bool) -> None:
    ones = np.ones((B, 6), np.int32)
    ones[0, 4:] = 0
    check(ms(OP, real(B, 1, D), real(B, N, 6, H), real(B, N, 6, H), ones if mask else None, None, None, None, None,
             None, None, real(3 * D) if bias else None, num_heads=N), symbols={(0, 0): "b", (1, 0): "b", (2, 0): "b"}
          if not mask else None)


def test_without_a_shared_buffer_it_is_multi_head_attention() -> None:
    inputs = [real(B, 1, D) for _ in range(3)]
    past = [real(B, N, PAST, H) for _ in range(2)]
    want = ms("MultiHeadAttention", *inputs, None, None, None, *past, num_heads=N, outputs=3).onnxruntime()
    check(ms(OP, *inputs, None, None, *past, num_heads=N, outputs=3), want)


def test_a_shared_buffer_needs_its_length() -> None:
    with pytest.raises(ModelError, match="shared buffer needs"):
        ms(OP, real(B, 1, D), real(B, 1, D), real(B, 1, D), num_heads=N, past_present_share_buffer=1).infer()
