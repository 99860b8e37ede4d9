"""From scikit-learn to ONNX: one file of translators for each family of estimators.

A model of an array takes one matrix `X` of rows and features, its rows always free; a model of a DataFrame takes one
input (rows, 1) for each column, under the column's name and of its type; a model of texts or labels takes `X` (rows,);
one of dictionaries takes an input (rows, 1) for each key, where a number that a row has not got is 0 and a string "".
A classifier gives `label` and `probabilities` (or `scores`), a regressor `prediction`, a transformer `transformed`, a
density `log_density`, a search for neighbours `distances` and `neighbors`; what does several of these gives them all.
`inverse_transform` gives `inverse` where it is asked for: of `X`, which are transformed rows then, or of a second input
`Xt` beside other methods. The example may be transformed rows, or rows that the estimator transforms itself.

`gesher.export(estimator, example, ...)` knows these settings:

- `methods=[...]`: the methods to answer (`predict`, `predict_proba`, `predict_log_proba`, `decision_function`,
  `transform`, `inverse_transform`, `score_samples`, `kneighbors`), each as outputs of its own.
- `dtype="float32"` or `"float64"`: what the model computes in; without it the example says: float32 numbers give
  float32, all else float64, as in scikit-learn.
- `on_error="fail"` or `"nan"`: what a model does where scikit-learn raises an error for a value that it does not know
  (`OneHotEncoder(handle_unknown="error")`): an index beyond its data, which engines refuse to run (an engine that does
  not look gives NaN), or NaN in what the value should have become. The metadata `gesher.raises` lists such places.

A transformer of your own crosses by a translator of your own, registered under the full name of its class:

    @gesher.frontends.sklearn.translates("mypackage.mymodule.Doubler")
    def _(t, estimator, x):
        return Outputs(transformed=t.b.Mul(x, t.constant(2)))

    @gesher.frontends.sklearn.inverts("mypackage.mymodule.Doubler")    # where it has an inverse_transform
    def _(t, estimator, x):
        return t.b.Div(x, t.constant(2))
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from gesher.frontends.protocol import Exported, ExportOptions, Frontend, from_framework

if TYPE_CHECKING:
    from .translation import Outputs, Translation, inverts, translates

__all__ = ["Outputs", "SklearnFrontend", "Translation", "inverts", "translates"]


def __getattr__(name: str) -> Any:
    # The translators' own words are loaded when somebody asks: to know this frontend costs no builder.
    if name in ("Outputs", "Translation", "inverts", "translates"):
        return getattr(import_module(f"{__name__}.translation"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class SklearnFrontend(Frontend):
    """scikit-learn's fitted estimators."""

    name = "sklearn"

    def missing(self) -> str | None:
        return None if find_spec("sklearn") else "scikit-learn is not installed; pip install 'gesher[sklearn]'"

    def takes(self, obj: Any) -> bool:
        # The boosters' estimators are scikit-learn's by inheritance, and have frontends of their own.
        return from_framework(obj, "sklearn") and hasattr(obj, "get_params") and not from_framework(obj, *BOOSTERS)

    def export(self, obj: Any, example: Any, options: ExportOptions) -> Exported:
        from gesher.base.errors import GesherError

        from .translate import beyond, translate

        try:
            return translate(obj, example, options)
        except GesherError:
            raise
        except Exception as e:    # what a translator did not foresee, of whatever kind
            raise beyond(obj, example, options, e) from e


BOOSTERS = ("catboost", "lightgbm", "xgboost")
FAMILIES = ("bayes", "boosting", "clustering", "composing", "decomposition", "embedding", "encoding", "ensembles",
            "expansion", "factorization", "gaussian", "hashing", "imputing", "kernels", "linear", "meta", "neighbors",
            "neural", "pictures", "preprocessing", "records", "selection", "sparse_coding", "text", "trees")


@cache
def load_translators() -> None:
    """Import the files of translators, which fill the table."""
    for family in FAMILIES:
        import_module(f"{__name__}.{family}")
    for family in BOOSTERS:
        if find_spec(f"gesher.frontends.boosters.{family}"):
            import_module(f"gesher.frontends.boosters.{family}")
