"""From scikit-learn to ONNX: pipelines, scalers, linear models, trees, forests, boosting, perceptrons.

A model takes one matrix `X` of rows and features, its rows always free. A classifier gives `label` and
`probabilities`, a regressor `prediction`, a transformer `transformed`. The input's type is the example's (float32
without one); a float64 example gives a model that computes in float64.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from gesher.base.errors import UnsupportedError
from gesher.frontends.protocol import Exported, ExportOptions, Frontend, from_framework

__all__ = ["SklearnFrontend"]


class SklearnFrontend(Frontend):
    """scikit-learn's fitted estimators."""

    name = "sklearn"

    def missing(self) -> str | None:
        return None if find_spec("sklearn") else "scikit-learn is not installed; pip install 'gesher[sklearn]'"

    def takes(self, obj: Any) -> bool:
        return from_framework(obj, "sklearn") and hasattr(obj, "get_params")

    def export(self, obj: Any, example: Any, options: ExportOptions) -> Exported:
        from .translate import translate

        if isinstance(example, dict):
            if len(example) != 1:
                raise UnsupportedError(f"a scikit-learn model takes one matrix, the example has {len(example)}",
                                       who="sklearn")
            example = next(iter(example.values()))
        return translate(obj, example, options)


def load_translators() -> None:
    """Import the files of translators, which fill the table."""
    from . import composing, linear, neural, preprocessing, trees

    # Named so that a reader sees which there are.
    assert all((composing, linear, neural, preprocessing, trees))
