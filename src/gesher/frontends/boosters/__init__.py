"""From the libraries of boosted trees to ONNX, a family of files each; their own files are read without them.

A model takes one matrix `X` of rows and features, its rows free. A classifier gives `label` and `probabilities`,
everything else `prediction`; a raw booster gives `prediction`, which is what its `predict` says, and where that is of
classes the other two as well. Names of features are kept in the metadata (`gesher.columns`).
"""

from __future__ import annotations

from typing import Any

from gesher.frontends.protocol import Exported, ExportOptions, Frontend, from_framework

__all__ = ["CatBoostFrontend", "LightGBMFrontend", "XGBoostFrontend"]


class CatBoostFrontend(Frontend):
    """CatBoost's estimators and files."""

    name = "catboost"

    def missing(self) -> str | None:
        return None

    def takes(self, obj: Any) -> bool:
        return from_framework(obj, "catboost") or type(obj).__name__ == "CatBoostModel"

    def export(self, obj: Any, example: Any, options: ExportOptions) -> Exported:
        from .catboost import export

        return export(obj, example, options)


class LightGBMFrontend(Frontend):
    """LightGBM's estimators, boosters and files."""

    name = "lightgbm"

    def missing(self) -> str | None:
        return None

    def takes(self, obj: Any) -> bool:
        return from_framework(obj, "lightgbm") or type(obj).__name__ == "LightGBMModel"

    def export(self, obj: Any, example: Any, options: ExportOptions) -> Exported:
        from .lightgbm import export

        return export(obj, example, options)


class XGBoostFrontend(Frontend):
    """XGBoost's estimators, boosters and files."""

    name = "xgboost"

    def missing(self) -> str | None:
        return None

    def takes(self, obj: Any) -> bool:
        return from_framework(obj, "xgboost") or type(obj).__name__ == "XGBoostModel"

    def export(self, obj: Any, example: Any, options: ExportOptions) -> Exported:
        from .xgboost import export

        return export(obj, example, options)
