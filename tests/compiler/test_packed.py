"""Packed constants: made when wanted, once, and held to what was promised."""

from __future__ import annotations

import numpy as np
import pytest

from gesher.base.dtypes import FLOAT
from gesher.base.errors import CompileError
from gesher.compiler import cpu, target
from gesher.compiler.packed import packed
from gesher.primitives import Builder


def test_numbers_are_made_when_they_are_wanted_and_once():
    p, turns = Builder(), []

    def turned(w):
        turns.append(1)
        return w.T

    w = p.constant(np.arange(600, dtype=np.float32).reshape(20, 30))
    e = packed(("turned",), [w], FLOAT, (30, 20), turned)
    assert packed(("turned",), [w], FLOAT, (30, 20), turned) is e and not turns
    value = e.params["value"]
    assert value.numpy().tolist() == w.params["value"].T.tolist() and value.numpy() is value.numpy()
    assert len(turns) == 1


def test_what_was_not_promised_is_refused():
    w = Builder().constant(np.zeros((20, 30), np.float32))
    wrong = packed(("wrong",), [w], FLOAT, (20, 30), lambda w: w.T)
    with pytest.raises(CompileError, match="was promised"):
        wrong.params["value"].numpy()


def test_a_named_instruction_set_brings_its_own_features_only():
    with target.building_for(cpu.isa("avx2")):
        assert target.current().width == 8 and "avx512f" not in target.features()
    assert target.chosen() is None and target.current() is cpu.here().isa
