"""Operators in every version: reference, inference and lowering on the tables `tests/ops/rows_of_*.py`.

Each row runs in all types too that its version allows for the first input.
Together with ONNX's own cases, which exercise 361 of its 659 schemas, they exercise them all: `uncovered` counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.defs
import onnx.parser
import pytest
from tests.ops import rows_of_features, rows_of_layers, rows_of_numbers, rows_of_places
from tests.ops.drawing import tolerance, types_of
from tests.ops.every_version import Row
from tests.ops.rows_of_graphs import DRAWS, MODELS, Random, Told
from tests.ops.single_node import Case, check
from tests.suites.conformance import cases

from gesher import ops
from gesher.base.dtypes import BOOL, FLOAT, STRING, DType
from gesher.base.errors import ModelError
from gesher.evaluator import Evaluator
from gesher.inference import infer
from gesher.ir import TensorType
from gesher.ir.files import from_bytes
from gesher.primitives import CannotLower

ROWS = [*rows_of_numbers.ROWS, *rows_of_places.ROWS, *rows_of_layers.ROWS, *rows_of_features.ROWS]

_UNCOVERED_FILE = Path(__file__).parents[1] / "suites" / "uncovered_versions.txt"

Key = tuple[str, str, int]


def _each(table: list[Any]) -> list[tuple[Any, int]]:
    return [(row, version) for row in table for version in row.versions()]


def _label(value: Any) -> str:
    return str(value) if isinstance(value, int) else value.op


@pytest.mark.parametrize(("row", "version"), _each(ROWS), ids=_label)
def test_every_version_gives_its_answer(row: Row, version: int) -> None:
    case = row.case(version)
    # Lowerings may ask for the numbers of whatever holds sizes, axes or pads.
    known = [i for i, x in enumerate(case.inputs) if i and x is not None and x.dtype.kind in "iu" and x.size < 64]
    try:
        case.lowered(known=known)
        lowers = True
    except CannotLower:
        lowers = False
    check(case, row.answers(version), known=known, lowers=lowers, exact=False, rtol=row.rtol, atol=row.atol)


# What type constraints allow and the text excludes: no floats, and how they are refused.
_REFUSED = {"GridSample": "cannot be interpolated", "Resize": "cannot be interpolated",
            "Upsample": "cannot be interpolated", "Imputer": "no value to put in"}


def _as_type(x: Any, dtype: DType) -> Any:
    """Numbers of another type, as near as it has them: whole, without a sign, or only zero or not."""
    if dtype is BOOL:
        return x > 0
    x = np.abs(x) if dtype.kind == "uint" else x
    return (x.astype(np.int8) if dtype.is_integer and dtype.bits < 8 else x).astype(dtype.numpy)


@pytest.mark.parametrize(("row", "version"), [(r, v) for r, v in _each(ROWS) if r.inputs], ids=_label)
def test_every_type_of_every_version_runs(row: Row, version: int) -> None:
    """All types that the first input's constraint names: the right types come out, and the lowering means the same."""
    _, _, schema = row.case(version).node()
    if row.case(version).inputs[0].dtype != np.float32:
        return
    bound = [i for i, x in enumerate(row.inputs) if x is not None and schema.input(i).type == schema.input(0).type]
    # Support vectors are told in float32, and both rules compute in it.
    coarse = row.op.startswith("SVM")
    for dtype in types_of(schema):
        if dtype in (FLOAT, STRING):
            continue
        with np.errstate(all="ignore"):    # numbers that do not fit are drawn on purpose
            inputs = [_as_type(x, dtype) if i in bound else x for i, x in enumerate(row.inputs)]
        case, near = replace(row, inputs=inputs).case(version), dict[str, Any](tolerance(FLOAT if coarse else dtype))
        try:
            case.reference()
        except ModelError as e:
            assert not dtype.is_float and row.op in _REFUSED and _REFUSED[row.op] in str(e), f"{dtype}: {e}"
            continue
        known = [i for i, x in enumerate(case.inputs)
                 if i not in (0, *bound) and x is not None and x.dtype.kind in "iu" and x.size < 64]
        try:
            case.lowered(known=known)
            lowers = True
        except CannotLower:
            lowers = False
        check(case, "nobody", known=known, lowers=lowers, exact=False, **near)


@pytest.mark.parametrize(("told", "version"), _each(MODELS), ids=_label)
def test_graphs_sequences_optionals_and_maps_too(told: Told, version: int) -> None:
    model = from_bytes(onnx.parser.parse_model(told.model(version)).SerializeToString())
    facts = infer(model)
    assert not facts.findings.errors, str(facts.findings)
    results = Evaluator(model).run(dict(zip([v.name for v in model.graph.inputs], told.feeds)))
    for value, want in zip(model.graph.outputs, told.want(*told.feeds), strict=True):
        got, fact = results[value.name], facts[value]
        if not isinstance(want, np.ndarray):
            assert got == want
            continue
        assert got.dtype == want.dtype and got.shape == want.shape and np.array_equal(got, want), f"{got}, not {want}"
        if isinstance(fact.type, TensorType):
            assert fact.dtype.numpy == got.dtype
            assert fact.shape is None or all(d == n for d, n in zip(fact.shape, got.shape) if isinstance(d, int))


@pytest.mark.parametrize(("row", "version"), _each(DRAWS), ids=_label)
def test_random_numbers_have_the_distribution_that_was_asked_for(row: Random, version: int) -> None:
    case = Case(row.op, version, row.inputs, row.attributes)
    y, = case.reference()
    assert y.dtype == row.dtype and y.size == 4000
    # Four standard errors of the mean; the seed is fixed.
    assert abs(float(y.mean()) - row.mean) < 4 * row.deviation / 4000**0.5
    assert abs(float(y.std()) - row.deviation) < 0.05 * row.deviation
    (fact,), _ = case.infer()
    assert fact is not None and fact.dtype.numpy == y.dtype and fact.shape == y.shape


def published() -> set[Key]:
    """Every schema that onnx publishes: domain, name, version."""
    return {(s.domain, s.name, s.since_version) for s in onnx.defs.get_all_schemas_with_history()}


def conformance() -> set[Key]:
    """The schemas that ONNX's own cases exercise, in nested graphs and functions too."""
    versions: dict[tuple[str, str], list[int]] = {}
    for domain, name, version in published():
        versions.setdefault((domain, name), []).append(version)

    def within(nodes: Any, opsets: dict[str, int]) -> Iterator[Key]:
        for n in nodes:
            fitting = [v for v in versions.get((n.domain, n.op_type), ()) if v <= opsets.get(n.domain, 0)]
            if fitting:
                yield n.domain, n.op_type, max(fitting)
            for a in n.attribute:
                yield from within(a.g.node, opsets)

    found: set[Key] = set()
    for case in cases():
        model = case.proto()
        for part, nodes in ((model, model.graph.node), *((f, f.node) for f in model.functions)):
            found.update(within(nodes, {o.domain: o.version for o in part.opset_import}))
    return found


def tabled() -> set[Key]:
    """The schemas that the tables exercise."""
    return {(getattr(row, "domain", ""), row.op, v) for row, v in _each([*ROWS, *MODELS, *DRAWS])}


def test_every_schema_has_a_case() -> None:
    """All 659, but for the few of a list that says why, and that may only shrink."""
    lines = [line.split(None, 3) for line in _UNCOVERED_FILE.read_text().splitlines()
             if line and not line.startswith("#")]
    listed = {("" if domain == "ai.onnx" else domain, name, int(version)) for domain, name, version, _ in lines}
    assert len(published()) == 659
    assert tabled() <= published()
    assert published() - conformance() - tabled() == listed
    assert all(len(reason) > 10 for *_, reason in lines)


def test_answers_come_from_the_same_meaning() -> None:
    """Where ONNX Runtime lacks a version, it is asked for one that means the same, never over a change of meaning."""
    old = next(r for r in ROWS if r.op == "Softmax")
    assert old.answers(1)[0].sum() == pytest.approx(2)    # two rows of twelve
    assert old.answers(13)[0].sum() == pytest.approx(8)    # along one axis
    add = next(r for r in ROWS if r.op == "Add")
    assert list(Row("Add", add.inputs)._askable(6)) == []
    assert ops.find("", "Softmax") is old.operator
