"""The models of real use, compiled: answers as ONNX Runtime's, at two sizes from one compilation."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from tests.suites.real import SIZES, Case, cases, hold

from gesher.compiler import toolchain
from gesher.compiler.session import CompiledSession, Options, compile
from gesher.evaluator import Evaluator
from gesher.ir.files import load

pytestmark = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")

CASES = pytest.mark.parametrize("case", cases(), ids=str)


@cache
def compiled(case: Case) -> CompiledSession:
    return compile(load(case.path), Options(threads=2))


@CASES
def test_compiled_models_answer_as_onnx_runtime(case: Case) -> None:
    session = compiled(case)
    for size in SIZES:
        hold(case, size, session.run)


@CASES
def test_every_node_of_these_models_is_compiled(case: Case) -> None:
    session = compiled(case)
    session.run(case.feeds(0))
    left = [f.node.place for g in session.graphs() for v in g.variants for s in v.lowered.stages for f in s.fallbacks]
    assert left == []


def test_compiled_and_reference_agree_closely() -> None:
    case = next(c for c in cases() if "cls" in c.name)
    feeds = case.feeds(1)
    want = Evaluator(load(case.path)).run(feeds)
    for name, got in compiled(case).run(feeds).items():
        np.testing.assert_allclose(got, want[name], atol=2e-5)
