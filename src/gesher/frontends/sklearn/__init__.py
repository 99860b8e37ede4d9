"""From scikit-learn to ONNX: one file of translators for each family of estimators.

A model takes one matrix `X` of rows and features, its rows always free. A classifier gives `label` and
`probabilities` (or `scores`), a regressor `prediction`, a transformer `transformed`, a density `log_density`, a search
for neighbours `distances` and `neighbors`; what does several of these gives all of them. The input's type is the
example's (float32
without one); a float64 example gives a model that computes in float64.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
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
        # The boosters' estimators are scikit-learn's by inheritance, and have frontends of their own.
        return from_framework(obj, "sklearn") and hasattr(obj, "get_params") and not from_framework(obj, *BOOSTERS)

    def export(self, obj: Any, example: Any, options: ExportOptions) -> Exported:
        from .translate import translate

        if isinstance(example, dict):
            if len(example) != 1:
                raise UnsupportedError(f"a scikit-learn model takes one matrix, the example has {len(example)}",
                                       who="sklearn")
            example = next(iter(example.values()))
        return translate(obj, example, options)


BOOSTERS = ("catboost", "lightgbm", "xgboost")
FAMILIES = ("bayes", "boosting", "clustering", "composing", "decomposition", "encoding", "ensembles", "expansion",
            "kernels", "linear", "meta", "neighbors", "neural", "preprocessing", "selection", "trees")


@cache
def load_translators() -> None:
    """Import the files of translators, which fill the table."""
    for family in FAMILIES:
        import_module(f"{__name__}.{family}")
    for family in BOOSTERS:
        if find_spec(f"gesher.frontends.boosters.{family}"):
            import_module(f"gesher.frontends.boosters.{family}")
