"""The public verbs: each joins the floors below for someone who has a model and wants one thing done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from gesher.ir import Model
from gesher.ir.files import load, save

if TYPE_CHECKING:
    from gesher.base.report import Report
    from gesher.engines import Session
    from gesher.engines.compare import Comparison
    from gesher.engines.torch.module import OnnxModule
    from gesher.inference import Facts

__all__ = ["check", "compare", "export", "infer", "load", "save", "session", "to_torch"]

Source = "Model | str | PathLike[str]"


def _model(source: Model | str | PathLike[str]) -> Model:
    return source if isinstance(source, Model) else load(source)


def check(model: Model | str | PathLike[str], *, strict: bool = False, weights: bool | None = None) -> Report:
    """Every finding on a model (or a file of one), in one pass.

    Args:
        strict: hold names to identifiers, too, as the letter of ONNX has it.
        weights: look at the numbers of all weights (True), of none (False), or of the smallest, 16 MiB together (None).

    Raises:
        FormatError: the bytes of the file are not a model.
    """
    from gesher.checker import check as check_model

    return check_model(_model(model), strict=strict, weights=weights)


def infer(model: Model | str | PathLike[str], *, dims: Mapping[str, int] | None = None) -> Facts:
    """What is known of every value: type, symbolic shape, known numbers, and why not where something is not.

    `facts[value]` is one value's; `gesher.inference.annotate(model, facts)` writes the types into the model.
    """
    from gesher.inference import infer as infer_model

    return infer_model(_model(model), dims=dict(dims) if dims else None)


def session(model: Model | str | PathLike[str], engine: str = "auto", *, threads: int = 0,
            precision: str = "f32", seed: int | None = None) -> Session:
    """Make a model ready to run: `session.run({"x": array})` gives the outputs by name.

    Args:
        engine: "auto" takes the fastest that is there and takes the model; `gesher engines` lists them.
        threads: at the most; 0 is every core that this process may use.
        precision: "f32", or "bf16": engines that can (compiled, openvino) round what products multiply to bfloat16.

    Raises:
        UnsupportedError: the engine is missing, or does not take this model; there is no such precision.
    """
    from gesher.engines import Options, prepare

    source = model if isinstance(model, (str, PathLike)) else _model(model)
    return prepare(source, engine, Options(threads=threads, precision=precision, seed=seed))


def to_torch(model: Model | str | PathLike[str], *, trainable: Callable[[str], bool] | None = None,
             seed: int = 0) -> OnnxModule:
    """A model as a `torch.nn.Module` with its float initializers as parameters, differentiable and trainable.

    Args:
        trainable: which float initializers are parameters, by name; the others are buffers (default: all but running
            statistics, operators' settings, and constants that have no name of their own).
        seed: of the random operators.

    Raises:
        UnsupportedError: operators of the model are not in the book.
    """
    from gesher.engines.torch.module import OnnxModule

    return OnnxModule(_model(model), trainable=trainable, seed=seed)


def compare(model: Model | str | PathLike[str], engines: Sequence[str] | None = None,
            feeds: Mapping[str, Any] | None = None, *, dims: Mapping[str, int] | None = None, seed: int = 0,
            rtol: float | None = None, atol: float | None = None, threads: int = 0,
            precision: str = "f32", layers: bool = False) -> Comparison:
    """The same inputs through several engines, held against the first; random inputs where none are given.

    `engines` are, by default, the reference and every other that is present.
    """
    from gesher.engines import Options, names
    from gesher.engines.compare import compare as compare_engines
    from gesher.engines.compare import present
    from gesher.evaluator.random_feeds import random_feeds

    model = _model(model)
    chosen = list(engines) if engines is not None else present(names())
    if feeds is None:
        feeds = random_feeds(model, dims=dims, seed=seed)
    return compare_engines(model, chosen, feeds, rtol=rtol, atol=atol, layers=layers,
                           options=Options(threads=threads, precision=precision))


def export(obj: Any, example: Any = None, *, dynamic: Mapping[str, Mapping[int, str]] | bool | None = None,
           opset: int | None = None, verify: bool = True, names: Mapping[str, list[str]] | None = None,
           **settings: Any) -> Model:
    """The ONNX model of a framework's object, verified against it.

    Args:
        obj: a scikit-learn estimator or pipeline, an estimator or booster of XGBoost, LightGBM or CatBoost, a
            `torch.nn.Module` or `ExportedProgram`; or the name of a file of one (`.json`, `.ubj`, `.txt`, `.joblib`,
            `.skops`, `.pt2`).
        example: what it would be called with: an array, a tuple of tensors.
        dynamic: which dims are free; see `gesher.frontends.ExportOptions`.
        opset: of ai.onnx; the frontend's default where None.
        verify: run the result on the example and hold it against the framework's own answers.
        settings: what one frontend knows. PyTorch: `ranges={"height": (32, None)}` limits free dims; `fold=False`
            leaves arithmetic on weights (batch normalisation behind convolutions above all) in the graph.

    Raises:
        UnsupportedError: parts of it cannot cross; all are named at once.
        ModelError: the result does not answer as the framework does.
    """
    from gesher.frontends import ExportOptions
    from gesher.frontends import export as export_object

    return export_object(obj, example, ExportOptions(opset=opset, dynamic=dynamic, verify=verify,
                                                     names=names or {}, settings=settings))
