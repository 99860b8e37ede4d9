"""Resize and Upsample: onnx's cases, ONNX Runtime on random attributes, and by hand."""

import numpy as np
import pytest
from tests.ops.single_node import Case, check, onnx_cases

from gesher.base.errors import ModelError
from gesher.ir.types import print_shape
from gesher.ops.core.resize import scaled
from gesher.symbolic import sym

PICTURE = {(0, 0): "n", (0, 2): "h", (0, 3): "w"}


@pytest.mark.parametrize(("case", "want", "rtol", "atol"),
                         [pytest.param(*c, id=c[0].name) for c in onnx_cases("Resize", "Upsample")])
def test_onnx_case(case: Case, want: list, rtol: float, atol: float) -> None:
    check(case, want, rtol=rtol, atol=max(atol, 1e-6), known=[i for i in (1, 2, 3) if i < len(case.inputs)])


def reals(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


SCALES = [0.5, 2.0, 1.0, 1.5, 3.0, 0.25, 0.6, 1.3]
EXACT = [0.5, 2.0, 1.0, 3.0]


def drawn(rng: np.random.Generator, version: int) -> tuple[list, dict]:
    """Inputs and attributes of a Resize of pictures that ONNX Runtime has."""
    mode = str(rng.choice(["nearest", "linear", "cubic"]))
    how = str(rng.choice(["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize",
                          *(["tf_half_pixel_for_nn"] if version == 11 else []),
                          *(["half_pixel_symmetric"] if version >= 19 else [])]))
    attributes: dict = {"mode": mode, "coordinate_transformation_mode": how}
    h, w = (int(d) for d in rng.integers(3, 9, 2))
    x = reals(rng, int(rng.integers(1, 3)), 2, h, w)
    if mode == "nearest":
        attributes["nearest_mode"] = str(rng.choice(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]))
    if mode == "cubic" and rng.random() < 0.5:
        attributes |= {"cubic_coeff_a": -0.5, "exclude_outside": int(rng.integers(0, 2))}
    roi = None
    if how == "tf_crop_and_resize":
        start, end = rng.uniform(-0.1, 0.4, 2), rng.uniform(0.6, 1.2, 2)
        roi = np.float32([0, 0, *start, 1, 1, *end])
        attributes["extrapolation_value"] = 7.0
    scales, sizes = None, None
    if rng.random() < 0.5:
        # Where a size has a fraction, ONNX Runtime takes the whole number in align_corners, onnx's cases the fraction.
        some = EXACT if how == "align_corners" else SCALES
        scales = np.float32([1, 1, *rng.choice(some, 2)])
        if how == "align_corners":
            x = reals(rng, x.shape[0], 2, 2 * (h // 2), 2 * (w // 2))
    else:
        sizes = np.array([*x.shape[:2], *rng.integers(1, 12, 2)], np.int64)
    # ONNX Runtime does not cut a region out of an axis that keeps its size.
    if how == "tf_crop_and_resize":
        if sizes is not None:
            sizes = np.where(sizes == x.shape, sizes + np.array([0, 0, 1, 1]), sizes)
        else:
            scales[2:][scales[2:] == 1] = 2
    if version == 11:
        roi = np.zeros(0, np.float32) if roi is None else roi
        scales = np.zeros(0, np.float32) if scales is None else scales
    return [x, roi, scales, *([] if sizes is None else [sizes])], attributes


@pytest.mark.parametrize("seed", range(80))
def test_resize_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    version = [11, 13, 18, 19][seed % 4]
    inputs, attributes = drawn(rng, version)
    exact = inputs[2] is None or inputs[2].size == 0 or all(float(s) in (*EXACT, 0.25, 1.5) for s in inputs[2])
    if attributes["coordinate_transformation_mode"] == "half_pixel_symmetric" and inputs[2] is None:
        attributes["coordinate_transformation_mode"] = "half_pixel"
    check(Case("Resize", version, inputs, attributes), rtol=1e-4, atol=1e-4,
          symbols=PICTURE if exact else {(0, 0): "n"},
          known=[i for i in (1, 2, 3) if i < len(inputs) and inputs[i] is not None])


@pytest.mark.parametrize("seed", range(24))
def test_antialias_agrees_with_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    attributes = {"mode": ["linear", "cubic"][seed % 2], "antialias": 1,
                  "coordinate_transformation_mode": str(rng.choice(["half_pixel", "align_corners", "asymmetric"])),
                  "exclude_outside": int(rng.integers(0, 2))}
    x = reals(rng, 1, 2, *rng.integers(4, 16, 2))
    sizes = np.array([1, 2, *rng.integers(2, 12, 2)], np.int64)
    check(Case("Resize", 19, [x, None, None, sizes], attributes), rtol=1e-3, atol=1e-4, symbols=PICTURE, known=[3])


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
@pytest.mark.parametrize(("mode", "axes"), [("nearest", [2, 3]), ("nearest", [3, 2]), ("nearest", [1, 3, 2]),
                                            ("linear", [2, 3]), ("linear", [3, 2])])
def test_axes_and_policies_agree_with_onnxruntime(mode: str, axes: list, policy: str) -> None:
    rng = np.random.default_rng(len(axes))
    x = reals(rng, 2, 3, 4, 6)
    sizes = np.array([x.shape[a] * 2 - i for i, a in enumerate(axes)], np.int64)
    attributes = {"mode": mode, "axes": axes, "keep_aspect_ratio_policy": policy}
    case = Case("Resize", 18, [x, None, None, sizes], attributes)
    check(case, known=[3], symbols=PICTURE if policy == "stretch" else {(0, 0): "n"})
    # With a policy, ONNX Runtime does not know axes counted from the end.
    check(Case("Resize", 18, [x, None, None, sizes], {**attributes, "axes": [a - 4 for a in axes]}), case.reference(),
          known=[3])


@pytest.mark.parametrize("scale", [2.0, 0.5, 0.6, 1.7, 3.0, 0.3])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_10_and_upsample_round_down_unless_an_axis_shrinks(mode: str, scale: float) -> None:
    x = reals(np.random.default_rng(0), 1, 2, 7, 10)
    scales = np.float32([1, 1, scale, 2])
    check(Case("Resize", 10, [x, scales], {"mode": mode}), known=[1], symbols={(0, 0): "n"})
    if scale >= 1:
        want = Case("Resize", 10, [x, scales], {"mode": mode}).onnxruntime()
        check(Case("Upsample", 9, [x, scales], {"mode": mode}), known=[1])
        check(Case("Upsample", 7, [x], {"mode": mode, "scales": scales.tolist()}), want)
        check(Case("Upsample", 1, [x], {"mode": mode.replace("linear", "bilinear"), "height_scale": float(scales[2]),
                                        "width_scale": 2.0}), want)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.int64, np.bool_, np.float16, np.float64,
                                   np.complex64, object])
def test_the_nearest_of_every_type_is_taken_as_it_is(dtype: type) -> None:
    x = np.arange(6).astype(dtype).reshape(1, 1, 2, 3) if dtype is not object else np.array(
        ["a", "b", "c", "d", "e", "f"], object).reshape(1, 1, 2, 3)
    case = Case("Resize", 13, [x, None, np.float32([1, 1, 2, 2])], {"coordinate_transformation_mode": "asymmetric",
                                                                     "nearest_mode": "floor"})
    check(case, [x.repeat(2, 2).repeat(2, 3)], known=[2])


def test_interpolated_integers_are_rounded_and_clipped() -> None:
    x = np.uint8([[[0, 255, 0, 255]]])
    linear = Case("Resize", 13, [x, None, np.float32([1, 1, 2])], {"mode": "linear"})
    check(linear, [np.uint8([[[0, 64, 191, 191, 64, 64, 191, 255]]])], rtol=0, atol=0, known=[2])
    cubic = Case("Resize", 13, [x, None, np.float32([1, 1, 2])], {"mode": "cubic"})
    assert cubic.reference()[0].min() == 0
    assert cubic.reference()[0].max() == 255
    check(cubic, "nobody", known=[2])


def test_float16_is_rounded_once() -> None:
    x = reals(np.random.default_rng(1), 1, 1, 4, 5)
    at = {"mode": "cubic"}
    want = Case("Resize", 13, [x.astype(np.float16).astype(np.float32), None, np.float32([1, 1, 2, 2])], at).reference()
    check(Case("Resize", 13, [x.astype(np.float16), None, np.float32([1, 1, 2, 2])], at),
          [want[0].astype(np.float16)], rtol=2**-10, atol=2**-11, known=[2])


def test_three_spatial_axes() -> None:
    x = reals(np.random.default_rng(2), 1, 2, 3, 4, 5)
    sizes = np.array([1, 2, 5, 3, 8], np.int64)
    check(Case("Resize", 13, [x, None, None, sizes], {"mode": "linear"}), known=[3],
          symbols={(0, 0): "n", (0, 2): "d", (0, 3): "h", (0, 4): "w"})


def test_a_region_of_interest_may_come_at_run_time() -> None:
    x = reals(np.random.default_rng(3), 1, 1, 6, 6)
    roi = np.float32([0, 0, 0.2, 0.1, 1, 1, 0.7, 1.3])
    at = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 9.0}
    check(Case("Resize", 13, [x, roi, None, np.array([1, 1, 4, 3])], at), known=[3], symbols=PICTURE)


def test_sizes_are_exact_expressions_where_float32_is_exact() -> None:
    h = sym("h")
    assert scaled(h, 2.0) == 2 * h
    assert scaled(h, 0.5) == h // 2
    assert scaled(h, 2.5) == 5 * h // 2
    assert scaled(h, np.float32(0.7)) is None
    assert scaled(10, float(np.float32(0.7))) == 7  # in float32 the product rounds up to 7
    x = np.zeros((1, 3, 4, 6), np.float32)
    facts, _ = Case("Resize", 13, [x, None, np.float32([1, 1, 2, 0.5])]).infer(PICTURE, known=[2])
    assert print_shape(facts[0].shape) == "(n,3,2*h,w//2)"


def test_what_is_not_known_does_not_lower() -> None:
    x = np.zeros((1, 1, 4, 6), np.float32)
    check(Case("Resize", 13, [x, None, np.float32([1, 1, 2, 2])]), lowers=False, exact=False)
    check(Case("Resize", 13, [x, None, None, np.array([1, 1, 2, 2])]), lowers=False, exact=False)


@pytest.mark.parametrize(("inputs", "attributes", "what"), [
    ([None, None, None], {}, "one of scales and sizes must be given"),
    ([None, np.float32([1, 1, 2, 2]), np.array([1, 1, 2, 2])], {}, "only one of them"),
    ([None, np.float32([2, 2]), None], {}, "2 scales for 4 axes"),
    ([None, np.float32([1, 1, 0, 2]), None], {}, "must be above 0"),
    ([None, np.float32([1, 1, 2, 2]), None], {"mode": "area"}, "mode cannot be 'area'"),
    ([None, np.float32([1, 1, 2, 2]), None], {"coordinate_transformation_mode": "center"}, "'center'"),
    ([None, np.float32([2, 2]), None], {"axes": [2, 4]}, "not within"),
    ([None, np.float32([1, 1, 2, 2]), None], {"antialias": 1}, "antialias needs"),
    ([None, None, np.array([2, 2])], {"axes": [2, 3], "keep_aspect_ratio_policy": "fit"}, "'fit'"),
])
def test_attributes_that_contradict_are_refused(inputs: list, attributes: dict, what: str) -> None:
    x = np.zeros((1, 1, 4, 6), np.float32)
    while inputs and inputs[-1] is None:
        inputs = inputs[:-1]
    case = Case("Resize", 18, [x, *inputs], attributes)
    with pytest.raises(ModelError, match=what):
        case.infer(known=[i + 1 for i, v in enumerate(inputs) if v is not None])
    with pytest.raises(ModelError, match=what):
        case.reference()
