"""Models for operators that hold graphs, sequences, optionals and maps, in every version, with answers by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tests.ops.every_version import ML, f32, i64

from gesher import ops


@dataclass(frozen=True)
class Told:
    """A model as text (`OPSET` stands for the version's opsets), feeds in the order of its inputs, what it gives."""

    op: str
    text: str
    feeds: list[Any]
    want: Callable[..., list[Any]]
    since: int = 1
    until: int = 1000
    domain: str = ""

    def versions(self) -> list[int]:
        """The versions that the text holds in."""
        operator = ops.find(self.domain, self.op)
        assert operator is not None
        return [s.version for s in operator.versions if self.since <= s.version <= self.until]

    def model(self, version: int) -> str:
        """The text for one version."""
        opsets = f'"" : 17, "{ML}" : {version}' if self.domain else f'"" : {version}'
        return f"<ir_version: {10 if version > 6 else 3}, opset_import: [{opsets}]>\n{self.text}"


_IF = """agraph (bool b, float[2] x) => (float[2] y) {
    y = If (b) <then_branch = t () => (float[2] a) { a = Neg (x) }, else_branch = e () => (float[2] c) { c = Abs (x) }>
}"""
_LOOP = """agraph (int64 n, bool go, float[2] x) => (float[2] y, float[k, 2] s) {
    y, s = Loop (n, go, x) <body = b (int64 i, bool c, float[2] v) => (bool d, float[2] w, float[2] o) {
        d = Identity (c)
        w = Add (v, x)
        o = Neg (v)
    }>
}"""
# A running sum, over time from behind.
_SCAN = """agraph (float[2] first, float[3, 2] x) => (float[2] last, float[3, 2] sums) {
    last, sums = Scan <num_scan_inputs = 1, scan_input_directions = [1], body = b (float[2] s, float[2] v)
        => (float[2] t, float[2] o) { t = Add (s, v)  o = Identity (t) }> (first, x)
}"""
_X = f32([1, 2], [3, 4], [5, 6])
_GET = "agraph (optional(float[2]) x) => (float[2] y) { y = OptionalGetElement (x) }"
_HAS = "agraph (optional(float[2]) x) => (bool y) { y = OptionalHasElement (x) }"

MODELS = [
    Told("If", _IF, [np.array(True), f32(-1, 2)], lambda b, x: [f32(1, -2)]),
    Told("If", _IF, [np.array(False), f32(-1, 2)], lambda b, x: [f32(1, 2)]),
    Told("Loop", _LOOP, [np.array(3), np.array(True), f32(1, 2)],
         lambda n, go, x: [f32(4, 8), f32([-1, -2], [-2, -4], [-3, -6])]),
    Told("Loop", _LOOP, [np.array(3), np.array(False), f32(1, 2)], lambda n, go, x: [x, np.zeros((0, 2), np.float32)]),
    Told("Scan", _SCAN, [f32(10, 20), _X], lambda first, x: [f32(19, 32), f32([15, 26], [18, 30], [19, 32])], since=9),
    # The batch comes first, and before it how far to go in each.
    Told("Scan", """agraph (int64[1] lengths, float[1, 2] first, float[1, 3, 2] x) => (float[1, 2] last,
        float[1, 3, 2] sums) { last, sums = Scan <num_scan_inputs = 1, body = b (float[2] s, float[2] v)
        => (float[2] t, float[2] o) { t = Add (s, v)  o = Identity (t) }> (lengths, first, x) }""",
         [i64(2), f32([10, 20]), _X[None]], lambda n, first, x: [f32([14, 26]), f32([[11, 22], [14, 26], [0, 0]])],
         since=8, until=8),
    Told("Optional", "agraph (float[2] x) => (optional(float[2]) y) { y = Optional (x) }", [f32(1, 2)],
         lambda x: [x]),
    Told("OptionalGetElement", _GET, [f32(1, 2)], lambda x: [x]),
    Told("OptionalGetElement", "agraph (float[2] x) => (float[2] y) { y = OptionalGetElement (x) }", [f32(1, 2)],
         lambda x: [x], since=18),
    Told("OptionalHasElement", _HAS, [None], lambda x: [np.array(False)]),
    Told("OptionalHasElement", _HAS, [f32(1, 2)], lambda x: [np.array(True)]),
    Told("OptionalHasElement", "agraph (float[2] x) => (bool y, bool z) { y = OptionalHasElement (x) "
         " z = OptionalHasElement () }", [f32(1, 2)], lambda x: [np.array(True), np.array(False)], since=18),
    Told("ZipMap", """agraph (float[2, 2] x) => (seq(map(int64, float)) y) {
        y = ai.onnx.ml.ZipMap <classlabels_int64s = [7, 9]> (x) }""", [f32([1, 2], [3, 4])],
         lambda x: [[{7: 1.0, 9: 2.0}, {7: 3.0, 9: 4.0}]], domain=ML),
    Told("CastMap", """agraph (map(int64, float) x) => (float[1, n] y) {
        y = ai.onnx.ml.CastMap <map_form = "SPARSE", max_map = 4> (x) }""", [{2: 1.5, 0: -2.0}],
         lambda x: [f32([-2, 0, 1.5, 0])], domain=ML),
    Told("DictVectorizer", """agraph (map(string, float) x) => (float[1, n] y) {
        y = ai.onnx.ml.DictVectorizer <string_vocabulary = ["a", "b", "c"]> (x) }""", [{"c": 1.5, "a": -2.0}],
         lambda x: [f32([-2, 0, 1.5])], domain=ML),
]


@dataclass(frozen=True)
class Random:
    """A node that draws: what it is given, of how many numbers, and the mean and deviation they must nearly have."""

    op: str
    inputs: list[Any]
    attributes: dict[str, Any]
    mean: float
    deviation: float
    dtype: Any = np.float32

    def versions(self) -> list[int]:
        """All versions."""
        operator = ops.find("", self.op)
        assert operator is not None
        return [s.version for s in operator.versions]


_MANY = np.zeros((40, 100), np.float32)
_UNIFORM = {"low": -1.0, "high": 3.0}

DRAWS = [
    Random("RandomNormal", [], {"mean": 2.0, "scale": 0.5, "shape": [40, 100]}, 2.0, 0.5),
    Random("RandomNormalLike", [_MANY], {"mean": 2.0, "scale": 0.5}, 2.0, 0.5),
    Random("RandomNormalLike", [_MANY], {"mean": -1.0, "dtype": 11}, -1.0, 1.0, np.float64),
    # The deviation of even numbers between two bounds is their distance through the root of twelve.
    Random("RandomUniform", [], {**_UNIFORM, "shape": [40, 100]}, 1.0, 4 / 12**0.5),
    Random("RandomUniformLike", [_MANY], _UNIFORM, 1.0, 4 / 12**0.5),
    Random("Bernoulli", [_MANY + np.float32(0.3)], {}, 0.3, 0.21**0.5),
    # 0, 1, 2 with 0.2, 0.3, 0.5: the mean is 1.3, of the squares 2.3.
    Random("Multinomial", [np.log(f32([0.2, 0.3, 0.5]))], {"sample_size": 4000}, 1.3, 0.61**0.5, np.int32),
]
