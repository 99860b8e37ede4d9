"""ONNX's operators that the book does not have yet. A test holds this list: whoever writes one strikes it out here."""

from __future__ import annotations

UNWRITTEN: frozenset[tuple[str, str]] = frozenset((domain, name) for domain, names in {
    "": """CausalConvWithState DeformConv
        ImageDecoder LinearAttention MaxRoiPool RoiAlign""",
    "ai.onnx.preview": "FlexAttention",
    "ai.onnx.preview.training": "Adagrad Adam Gradient Momentum",
}.items() for name in names.split())
