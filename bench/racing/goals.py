"""What is asked of the compiled engine: one row a figure, its limit and its aim, and the means over groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any

Row = Mapping[str, Any]


def ratio_of(medians: Mapping[str, float], ours: str = "compiled") -> float | None:
    """Our time over that of the faster rival; None where either is missing.

    >>> ratio_of({"compiled": 2.0, "onnxruntime": 4.0, "openvino": 5.0})
    0.5
    """
    rivals = [t for name, t in medians.items() if name != ours and t == t]
    mine = medians.get(ours, float("nan"))
    return mine / min(rivals) if rivals and mine == mine else None


def geometric_mean(ratios: Iterable[float]) -> float | None:
    """The geometric mean; None of nothing.

    >>> geometric_mean([0.5, 2.0])
    1.0
    """
    found = list(ratios)
    return exp(sum(map(log, found)) / len(found)) if found else None


@dataclass(frozen=True)
class Goal:
    """One figure with its limits.

    Attributes:
        figure: what is measured, for people.
        groups: whose rows count; empty: by `kinds`.
        kinds: of the rows that count.
        how: "mean" (geometric), "worst" or "least".
        field: of the rows.
        must, aim: at the most; for "least" at the least.
    """

    figure: str
    must: float
    aim: float
    groups: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    how: str = "worst"
    field: str = "ratio"
    names: tuple[str, ...] = ()

    def value(self, rows: Sequence[Row]) -> float | None:
        """The figure over those of `rows` that count; None where none was measured."""
        found = [r[self.field] for r in rows if r.get(self.field) is not None
                 and (not self.groups or r["group"] in self.groups) and (not self.kinds or r["kind"] in self.kinds)
                 and (not self.names or r["name"] in self.names)]
        if not found:
            return None
        if self.how == "mean":
            return geometric_mean(found)
        return min(found) if self.how == "least" else max(found)

    def reached(self, value: float) -> bool:
        return value >= self.must if self.how == "least" else value <= self.must

    def aimed(self, value: float) -> bool:
        return value >= self.aim if self.how == "least" else value <= self.aim


# Of the rows of one number of threads.
RACE_GOALS: tuple[Goal, ...] = (
    #    figure                                        must   aim
    Goal("fp32 models, geometric mean",                0.9,   0.65, kinds=("fp32",), how="mean"),
    Goal("ResNet-50, PP-OCR detection, worst",         0.8,   0.65, groups=("conv3x3",)),
    Goal("3x3 convolutions with SiLU",                 0.6,   0.4,  groups=("yolo",)),
    Goal("transformers at f32, worst",                 1.05,  0.9,  groups=("transformer",)),
    Goal("worst row of fp32",                          1.2,   1.0,  kinds=("fp32",)),
    Goal("int8 models, worst",                         1.1,   0.8,  kinds=("int8",)),
    Goal("tree ensembles, worst",                      0.5,   0.2,  groups=("trees",)),
    Goal("small Add, whole call, of ONNX Runtime",     0.7,   0.3,  names=("add",), field="of_onnxruntime"),
    Goal("Silero VAD, whole call, of ONNX Runtime",    0.7,   0.3,  names=("silero_vad",), field="of_onnxruntime"),
    Goal("large GEMM, 1x1 convolution, of FMA peak",   0.9,   0.95, groups=("peak",), how="least", field="of_peak"),
)
# Of the figures about loading.
LOAD_GOALS: tuple[Goal, ...] = (
    Goal("cold compile of ResNet-50, BERT-base (s)",   20,    6,    names=("resnet50", "bert_base_128"),
         field="compile_s"),
    Goal("cold compile of Silero VAD (s)",             3,     1,    names=("silero_vad",), field="compile_s"),
    Goal("second load, of ONNX Runtime's, worst",      1.0,   0.3,  field="load_ratio"),
    Goal("peak memory, of ONNX Runtime's, worst",      1.0,   0.7,  field="memory_ratio"),
)
DYNAMIC_GOALS: tuple[Goal, ...] = (
    Goal("free shapes, of a session specialised to them, worst", 1.1, 1.0, field="ratio"),
    Goal("libraries compiled for a new shape",         0,     0,    field="compiled_again"),
)
