"""Which opset a model is written in when nobody says which: the newest that today's engines all run.

TensorRT's parser is what bounds it: it reads up to opset 24 until TensorRT 11.4 and 25 since 11.5 (operators.md of
onnx-tensorrt, release notes). ONNX Runtime 1.32 and OpenVINO 2026.4 load models up to 28, but ONNX Runtime finds no
Swish in those of 25 and later. A few operators were given a new version by an opset that ONNX Runtime has not followed,
so a model that has one is written in the opset before.
"""

from __future__ import annotations

from gesher.ir import Model

DEFAULT_OPSET = 24

# The newest opset at which ONNX Runtime 1.32 runs it on a CPU. All were renewed by 22, which added bfloat16.
_LATEST = {"Bernoulli": 21, "Multinomial": 21, "RandomNormal": 21, "RandomNormalLike": 21, "RandomUniform": 21,
           "RandomUniformLike": 21, "RoiAlign": 21}


def fitting(model: Model) -> int:
    """The newest opset up to the default in which engines run every operator of `model`."""
    used = {n.op_type for g in model.graphs() for n in g.nodes if n.domain in ("", "ai.onnx")}
    return min([DEFAULT_OPSET, *(_LATEST[o] for o in used & _LATEST.keys())])
