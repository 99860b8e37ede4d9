"""MatMul, Gemm and their quantised sisters: onnx's cases, ONNX Runtime, and by hand."""

import numpy as np
import pytest
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError
from gesher.symbolic import sym

OURS = ("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul")


@pytest.mark.parametrize(("case", "want", "rtol", "atol"),
                         [pytest.param(*c, id=c[0].name) for c in onnx_cases(*OURS)])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    check(case, want, rtol=rtol, atol=max(atol, 1e-6), symbols={(0, 0): "m"} if case.inputs[0].ndim > 1 else None)


def _numbers(rng: np.random.Generator, shape: tuple, dtype: type) -> np.ndarray:
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("shapes", [((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((2, 3), (3, 4)),
                                    ((2, 1, 2, 3), (5, 3, 4)), ((3,), (2, 3, 4)), ((5, 2, 3), (3,)),
                                    ((1, 2, 3), (4, 3, 1)), ((2, 0, 3), (3, 4)), ((2, 3), (4, 3, 2))])
@pytest.mark.parametrize(("version", "dtype"), [(1, np.float32), (9, np.int32), (13, np.float64), (13, np.int64),
                                                (13, np.uint32), (13, np.uint64)])
def test_matmul_agrees_with_onnxruntime(shapes: tuple, version: int, dtype: type) -> None:
    rng = np.random.default_rng(0)
    a, b = (_numbers(rng, s, dtype) for s in shapes)
    symbols = {(0, 0): "m"} if a.ndim == 2 else {(0, 0): "n", (0, a.ndim - 2): "m"} if a.ndim > 2 else None
    if symbols and b.ndim > 2 and b.ndim == a.ndim:
        symbols = {(0, a.ndim - 2): "m"}
    check(Case("MatMul", version, [a, b]), symbols=symbols)


def test_symbolic_batches_broadcast_and_inner_sizes_become_one() -> None:
    a, b = np.zeros((2, 3, 4), np.float32), np.zeros((2, 4, 5), np.float32)
    facts, known = Case("MatMul", 13, [a, b]).infer({(0, 0): "n", (0, 2): "k", (1, 0): "n"})
    assert facts[0].shape == (sym("n"), 3, 5)
    assert known.resolve(sym("k")) == 4


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_floats_are_summed_in_float32_and_rounded_once(dtype: str) -> None:
    import ml_dtypes

    kind = np.dtype(getattr(ml_dtypes, dtype) if dtype == "bfloat16" else dtype)
    ones = np.ones((1, 4096), kind)
    check(Case("MatMul", 13, [ones, ones.T]), [np.array([[4096]], kind)], rtol=0, atol=0)
    check(Case("Gemm", 13, [ones, ones.T], {"alpha": 0.5}), [np.array([[2048]], kind)], rtol=0, atol=0)


@pytest.mark.parametrize("seed", range(36))
def test_gemm_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    version = [6, 7, 9, 11, 13, 13][seed % 6]
    dtype = rng.choice([np.float32, np.float64])
    m, n, k = (int(d) for d in rng.integers(1, 5, 3))
    attributes: dict = {}
    if rng.random() < 0.7:
        attributes |= {"alpha": float(np.float32(rng.normal())), "beta": float(np.float32(rng.normal()))}
    trans_a, trans_b = (int(t) for t in rng.integers(0, 2, 2))
    attributes |= {"transA": trans_a, "transB": trans_b}
    shapes = [(m, n), (1, n), (m, 1), (n,), (1,), (), (1, 1)]
    c_shape = shapes[int(rng.integers(len(shapes)))]
    if version < 7:
        attributes["broadcast"] = int(c_shape != (m, n))
    inputs = [_numbers(rng, (k, m) if trans_a else (m, k), dtype), _numbers(rng, (n, k) if trans_b else (k, n), dtype)]
    if version < 11 or rng.random() < 0.8:
        inputs.append(_numbers(rng, c_shape, dtype))
    symbols = {(0, 1 if trans_a else 0): "m"} if len(inputs) == 2 or c_shape[:1] != (m,) or c_shape == (n,) else None
    # ONNX Runtime begins at 7, where the broadcast that 6 had to ask for became the rule.
    modern = Case("Gemm", max(version, 7), inputs, {k: v for k, v in attributes.items() if k != "broadcast"})
    check(Case("Gemm", version, inputs, attributes), modern.onnxruntime(), symbols=symbols)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
def test_gemm_of_integers_is_exact_where_nothing_is_scaled(dtype: type) -> None:
    rng = np.random.default_rng(1)
    a, b, c = (_numbers(rng, s, dtype) for s in [(2, 3), (3, 4), (4,)])
    with np.errstate(over="ignore"):
        check(Case("Gemm", 13, [a, b, c]), [a @ b + c], rtol=0, atol=0)
        check(Case("Gemm", 13, [a % 100, b % 100, c % 100], {"alpha": 0.5}),
              [np.trunc((a % 100) @ (b % 100) * 0.5 + c % 100).astype(dtype)], rtol=0, atol=0)


def test_a_c_that_beta_takes_away_is_not_looked_at() -> None:
    a = np.eye(2, dtype=np.float32)
    check(Case("Gemm", 13, [a, a, np.full((2,), np.nan, np.float32)], {"beta": 0.0}), [a])


def test_gemm_before_7_does_not_broadcast_unless_told() -> None:
    a, c = np.eye(2, dtype=np.float32), np.ones(2, np.float32)
    with pytest.raises(ModelError, match="broadcast is 0"):
        Case("Gemm", 6, [a, a, c]).infer()
    with pytest.raises(ModelError, match="broadcast is 0"):
        Case("Gemm", 6, [a, a, c]).reference()
    check(Case("Gemm", 6, [a, a, c], {"broadcast": 1}), [a + c])


@pytest.mark.parametrize(("op", "shapes", "what"), [
    ("MatMul", [(2, 3), (4, 5)], "3 columns of (2,3) meet 4 rows of (4,5): 3 and 4 differ"),
    ("MatMul", [(), (3,)], "a scalar has no axis"),
    ("MatMul", [(2, 2, 3), (3, 3, 4)], "do not broadcast"),
    ("Gemm", [(2, 3), (4, 5)], "3 columns of A"),
    ("Gemm", [(2, 3, 1), (3, 5)], "A is a matrix, not (2,3,1)"),
    ("Gemm", [(2, 3), (3, 5), (3, 5)], "C (3,5)"),
])
def test_shapes_that_do_not_fit_are_refused(op: str, shapes: list, what: str) -> None:
    with pytest.raises(ModelError) as refused:
        Case(op, 13, [np.zeros(s, np.float32) for s in shapes]).infer()
    assert what in refused.value.what


@pytest.mark.parametrize("seed", range(16))
def test_matmul_integer_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a_dtype, b_dtype = np.uint8, rng.choice([np.uint8, np.int8])
    lead = (2,) if rng.random() < 0.4 else ()
    m, n, k = (int(d) for d in rng.integers(1, 6, 3))
    inputs = [_numbers(rng, (*lead, m, k), a_dtype), _numbers(rng, (k, n), b_dtype)]
    if rng.random() < 0.8:
        inputs.append(_numbers(rng, (), a_dtype))
        if rng.random() < 0.8:
            inputs.append(_numbers(rng, (n,) if rng.random() < 0.5 else (), b_dtype))
    check(Case("MatMulInteger", 10, inputs), rtol=0, atol=0, symbols={(0, 0): "m"})


def test_zero_points_of_rows_are_a_list_or_a_column() -> None:
    rng = np.random.default_rng(2)
    a, b = _numbers(rng, (3, 4), np.int8), _numbers(rng, (4, 2), np.int8)
    zero = np.array([1, -2, 3], np.int8)
    want = (a.astype(np.int32) - zero[:, None]) @ b.astype(np.int32)
    check(Case("MatMulInteger", 10, [a, b, zero]), [want.astype(np.int32)], rtol=0, atol=0)
    stacked = [np.stack([a, a]), np.stack([b, b]), np.stack([zero[:, None]] * 2)]
    check(Case("MatMulInteger", 10, stacked), [np.stack([want, want]).astype(np.int32)], rtol=0, atol=0)


@pytest.mark.parametrize("seed", range(16))
def test_qlinear_matmul_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dtype = rng.choice([np.uint8, np.int8])
    lead = (2,) if rng.random() < 0.4 else ()
    m, n, k = (int(d) for d in rng.integers(1, 6, 3))
    columns = (n,) if rng.random() < 0.4 else ()

    def scale(shape: tuple, low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, shape).astype(np.float32)

    inputs = [_numbers(rng, (*lead, m, k), dtype), scale((), 0.01, 0.1), _numbers(rng, (), dtype),
              _numbers(rng, (k, n), dtype), scale(columns, 0.01, 0.1), _numbers(rng, columns, dtype),
              scale((), 0.5, 1.5), _numbers(rng, (), dtype)]
    case = Case("QLinearMatMul", int(rng.choice([10, 21])), inputs)
    # A step of one where the scaled sum lies halfway: ONNX Runtime multiplies the scales in another order.
    check(case, rtol=0, atol=1, symbols={(0, 0): "m"}, lower_atol=0)
    assert np.mean(case.reference()[0] != case.onnxruntime()[0]) <= 0.05


def test_qlinear_matmul_of_8_bit_floats() -> None:
    import ml_dtypes

    kind = ml_dtypes.float8_e4m3fn
    a, b = np.array([[1, 2, -3]], kind), np.array([[2], [0.5], [1]], kind)
    one, zero = np.float32(1), np.zeros((), kind)
    check(Case("QLinearMatMul", 21, [a, one, zero, b, one, zero, np.float32(0.5), zero]), [np.array([[0]], kind)])
    huge = np.full((1, 3), 448, kind)
    check(Case("QLinearMatMul", 21, [huge, one, zero, huge.T, one, zero, one, zero]), [np.array([[448]], kind)])


def test_rounding_comes_before_the_zero_point() -> None:
    one, zero = np.float32(1), np.uint8(0)
    case = Case("QLinearMatMul", 10, [np.uint8([[1]]), one, zero, np.uint8([[1]]), one, zero, np.float32(2),
                                      np.uint8(1)])
    check(case, [np.uint8([[1]])], rtol=0, atol=0)  # 0.5 rounds to 0, and the zero point makes it 1
