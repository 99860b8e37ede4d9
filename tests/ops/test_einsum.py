"""Einsum: onnx's cases, ONNX Runtime on a list of equations, and by hand."""

import numpy as np
import pytest
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError
from gesher.ops.core.einsum import parse
from gesher.symbolic import sym


@pytest.mark.parametrize(("case", "want", "rtol", "atol"),
                         [pytest.param(*c, id=c[0].name) for c in onnx_cases("Einsum")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    check(case, want, rtol=rtol, atol=max(atol, 1e-6))


SIZES = {"a": 2, "b": 3, "i": 4, "j": 5, "k": 2, "h": 3, "d": 4, "A": 2, "0": 2, "1": 3}
EQUATIONS = [
    "ij->ji", "ij->", "ij->j", "ii->i", "ii", "iji->j", "ij,jk->ik", "ij,jk", "ij , kj -> ki", "i,j->ij", "i,i->i",
    "bij,bjk->bik", "bhid,bhjd->bhij", "bihd,bjhd->bhij", "ij,jk,kh->ih", "ij,j,jk->k", "aA,Ab->ab", "Ab->bA",
    "i,i,i->", "abi,abj->ij", "ij,ij->", "ij,jk->", "iik,kj->ij", "abc,c->ab".replace("c", "k"), "ij,k->ikj",
    "...ij,...jk->...ik", "...ij->...ji", "i...,i...->...", "...,...->...", "b...i,i->...b", "...ij", "i...->i...",
    "bhwd,wkd->bhwk".replace("w", "i"),
]


def operand(rng: np.random.Generator, term: str, dtype: type, lead: tuple[int, ...]) -> np.ndarray:
    before, dots, after = term.partition("...")
    shape = (*(SIZES[x] for x in before), *(lead if dots else ()), *(SIZES[x] for x in after))
    return rng.integers(-5, 6, shape).astype(dtype) if np.dtype(dtype).kind == "i" else rng.standard_normal(
        shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum_agrees_with_onnxruntime(equation: str, dtype: type) -> None:
    rng = np.random.default_rng(0)
    terms = equation.partition("->")[0].replace(" ", "").split(",")
    inputs = [operand(rng, t, dtype, (2, 3)) for t in terms]
    symbols = {(i, a): f"s{x}" for i, t in enumerate(terms) if "." not in t for a, x in enumerate(t)}
    check(Case("Einsum", 12, inputs, {"equation": equation}), symbols=symbols)


def test_axes_of_an_ellipsis_broadcast() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((3, 1, 2, 4)).astype(np.float32), rng.standard_normal((5, 4, 2)).astype(np.float32)
    check(Case("Einsum", 12, [a, b], {"equation": "...ij,...jk->...ik"}), [a @ b],
          symbols={(0, 0): "n", (0, 2): "m"})


@pytest.mark.parametrize(("equation", "shapes"), [
    ("ij,jk->ik", [(2, 1), (3, 4)]), ("ij,ij->ij", [(2, 1), (1, 3)]), ("i,i->", [(1,), (4,)]),
    ("i,i->i", [(1,), (1,)]), (",ij->ji", [(), (2, 3)])])
def test_a_size_of_1_goes_along_and_a_scalar_scales(equation: str, shapes: list) -> None:
    rng = np.random.default_rng(2)
    inputs = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    check(Case("Einsum", 12, inputs, {"equation": equation}), [np.einsum(equation, *inputs)])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "uint8", "int8", "uint64"])
def test_every_type_has_its_sum(dtype: str) -> None:
    import ml_dtypes

    kind = np.dtype(getattr(ml_dtypes, dtype) if dtype == "bfloat16" else dtype)
    x = np.ones((4, 300)).astype(kind)
    want = np.full((4, 4), 300).astype(kind) if kind.kind in "ui" else np.full((4, 4), 300, np.float32).astype(kind)
    check(Case("Einsum", 28, [x, x], {"equation": "ij,kj->ik"}), [want], rtol=0, atol=0)


def test_infinities_beside_the_diagonal_do_not_matter() -> None:
    x = np.array([[1, np.inf], [np.nan, 2]], np.float32)
    check(Case("Einsum", 12, [x], {"equation": "ii->i"}), [np.float32([1, 2])])


def test_the_result_of_an_implicit_equation_is_sorted_with_capitals_first() -> None:
    # ONNX Runtime refuses capitals in an implicit equation.
    x = np.float32([[1, 2, 3], [4, 5, 6]])
    check(Case("Einsum", 12, [x], {"equation": "bA"}), [x.T])
    assert parse("bA", [2])[1] == ["A", "b"]
    assert parse("ij,jk", [2, 2])[1] == ["i", "k"]
    assert parse("i...j", [4]) == ([["i", 1, 0, "j"]], [1, 0, "i", "j"])


def test_letters_unify_symbols() -> None:
    a, b = np.zeros((2, 3), np.float32), np.zeros((3, 4), np.float32)
    facts, known = Case("Einsum", 12, [a, b], {"equation": "ij,jk->ik"}).infer({(0, 0): "n", (0, 1): "m"})
    assert facts[0].shape == (sym("n"), 4)
    assert known.resolve(sym("m")) == 3


@pytest.mark.parametrize(("equation", "what"), [
    ("ij->ij,jk", "operands"), ("ij,jk->iz", "the result names 'z'"), ("ij,jk->ii", "twice"), ("i,jk->ik", "names 1"),
    ("ij,j1->i", "something else"), ("...j,jk->k", "ellipsis is missing"), ("ij,jk->i..k", "three dots"),
    ("ij,ik->jk", "the axes named 'i'"),
])
def test_equations_that_do_not_fit_are_refused(equation: str, what: str) -> None:
    with pytest.raises(ModelError, match=what):
        Case("Einsum", 12, [np.zeros((2, 3), np.float32), np.zeros((3, 4), np.float32)],
             {"equation": equation}).infer()
