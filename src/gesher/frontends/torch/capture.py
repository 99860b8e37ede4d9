"""From a module and an example to a functional graph of ATen operators, with names for its inputs and dims.

Modules are captured in evaluation mode (and put back afterwards): an exported model is for inference.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.export.dynamic_shapes import refine_dynamic_shapes_from_suggested_fixes
from torch.utils import _pytree as pytree

from gesher.base.errors import UnsupportedError
from gesher.frontends.protocol import ExportOptions

from .decompositions import fallbacks
from .recurrent import RecurrencesWhole


@dataclass(slots=True)
class Captured:
    """A program, ready to be translated.

    Attributes:
        program: functional, with big operators whole.
        dims: the name of each free dim by the program's own symbol.
        module: what was captured, to be asked for its own answers; None where only a program was given.
        args, kwargs: the example.
        title: the class name of the module.
    """

    program: Any
    dims: dict[str, str]
    module: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    title: str
    free: list[tuple[int, int, str]] = field(default_factory=list)


def capture(obj: Any, example: Any, options: ExportOptions) -> Captured:
    """Capture a module on its example, or take a program as it is.

    Raises:
        UnsupportedError: PyTorch cannot capture it, or fixes a dim that was asked to be free.
    """
    if isinstance(obj, torch.export.ExportedProgram):
        if options.dynamic is not None:
            raise UnsupportedError("the dims of an ExportedProgram were settled when it was exported", who="torch",
                                   advice="give dynamic_shapes to torch.export.export, or export the module itself")
        args, kwargs = obj.example_inputs or ((), {})
        return _finish(_functional(obj), None, args, kwargs, "program", {})
    args, kwargs = _arguments(obj, example)
    names = _argument_names(obj, args, kwargs)
    shapes, wished = _dynamic_shapes(names, args, kwargs, options.dynamic)
    seen_args, seen_kwargs = _larger(names, args, kwargs, wished)
    with evaluating(obj), warnings.catch_warnings(), RecurrencesWhole():
        warnings.simplefilter("ignore")
        try:
            program = _exported(obj, seen_args, seen_kwargs, shapes)
        except Exception as e:
            text = str(e).strip().split("\n\n")[0]
            text = re.sub(r'File "[^"]*[/\\]', 'File "', text)[:1500]
            what = "fixes a dim that was asked to be free" if "onstraint" in text[:200] else \
                "cannot be captured by torch.export"
            raise UnsupportedError(f"{type(obj).__name__} {what}: {text}", who="torch",
                                   advice="PyTorch's own message names the line; a module that branches on values or "
                                          "sizes needs torch.cond, or a fixed dim") from e
        program = _functional(program)
    return _finish(program, obj, args, kwargs, type(obj).__name__, wished)


def _exported(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any) -> Any:
    """torch.export, and where free dims only lack a least size, once more with the sizes that it suggests."""
    def attempt(shapes: Any) -> Any:
        return torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)

    try:
        return attempt(shapes)
    except Exception as e:
        fixes = None if shapes is None else _least_sizes(str(e))
        if fixes is None:
            raise
        try:
            return attempt(refine_dynamic_shapes_from_suggested_fixes(fixes, shapes))
        except Exception:
            raise e from None


def _least_sizes(message: str) -> str | None:
    """What PyTorch suggests, where all of it are least sizes of dims and none of it a fixed size; else None."""
    _, mark, rest = message.partition("Suggested fixes:")
    fixes = rest.strip().split("\n\n")[0]
    least = all(re.fullmatch(r"\s*\w+ = Dim\('\w+', min=\d+\)\s*", line) for line in fixes.splitlines())
    return f"{mark}\n{fixes}" if mark and fixes and least else None


@contextmanager
def evaluating(module: Any) -> Any:
    """The module in evaluation mode; each part goes back to its own mode afterwards."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield module
    finally:
        for m, training in modes:
            m.training = training


def _functional(program: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return program.run_decompositions(fallbacks())
        except Exception:
            # Some of PyTorch's decompositions do not survive functionalising. Whole, operators are refused by name.
            return program.run_decompositions({})


def _arguments(module: Any, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments from an example: a tensor, a tuple, a dictionary, or numpy arrays of them."""
    if example is None:
        raise UnsupportedError(f"{type(module).__name__} needs an example input to be exported", who="torch",
                               advice="gesher.export(module, (x,)), or --example x.npy on the command line")

    def tensor(x: Any) -> Any:
        return torch.as_tensor(x) if type(x).__module__ == "numpy" else x

    example = pytree.tree_map(tensor, example)
    if isinstance(example, dict):
        return (), example
    return (tuple(example) if isinstance(example, (tuple, list)) else (example,)), {}


def _argument_names(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[str]:
    import inspect

    parameters = list(inspect.signature(module.forward).parameters.values())
    names: list[str] = []
    for i in range(len(args)):
        p = parameters[min(i, len(parameters) - 1)] if parameters else None
        variadic = p is None or p.kind is inspect.Parameter.VAR_POSITIONAL
        names.append(f"args_{i}" if variadic or p is None else p.name)
    return [*names, *kwargs]


def _dynamic_shapes(names: list[str], args: tuple[Any, ...], kwargs: Mapping[str, Any], dynamic: Any
                    ) -> tuple[Any, dict[tuple[str, int], str]]:
    """What torch.export takes for free dims, and the name wished for each (argument, dim)."""
    if not dynamic:
        return None, {}
    values = dict(zip(names, (*args, *kwargs.values())))
    if dynamic is True:
        asked = {n: {0: "batch"} for n, v in values.items() if isinstance(v, torch.Tensor) and v.ndim}
    else:
        asked = {n: dict(d) if isinstance(d, Mapping) else dict(enumerate(d)) for n, d in dynamic.items()}
    for n in asked:
        if n not in values:
            raise UnsupportedError(f"there is no argument '{n}' to have free dims", who="torch",
                                   advice="the arguments are " + ", ".join(names))
        if not isinstance(values[n], torch.Tensor):
            raise UnsupportedError(f"the argument '{n}' is a {type(values[n]).__name__}; free dims are for tensors",
                                   who="torch")
    dims: dict[str, Any] = {}

    def dim(name: str) -> Any:
        # PyTorch wants an identifier, and compares dims of one name as one.
        safe = re.sub(r"\W", "_", name) or "dim"
        safe = safe if not safe[0].isdigit() else f"d{safe}"
        return dims.setdefault(name, torch.export.Dim(safe, min=1))

    wished = {(n, axis): name for n, d in asked.items() for axis, name in d.items() if name is not None}
    spec: dict[str, Any] = {}
    for n, v in values.items():
        if isinstance(v, torch.Tensor):
            found = {axis % v.ndim: dim(name) for axis, name in asked.get(n, {}).items() if name is not None}
            spec[n] = found or None
        else:
            spec[n] = pytree.tree_map(lambda _: None, v)
    positional = tuple(spec[n] for n in names[:len(args)])
    if kwargs:
        return {**dict(zip(names[:len(args)], positional)), **{n: spec[n] for n in kwargs}}, wished
    return positional, wished


def _larger(names: list[str], args: tuple[Any, ...], kwargs: Mapping[str, Any], wished: dict[tuple[str, int], str]
            ) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The example with free dims of 0 or 1 made larger: PyTorch takes those two sizes for fixed, whatever is asked."""
    values = dict(zip(names, (*args, *kwargs.values())))
    small = {name for (n, axis), name in wished.items() if values[n].shape[axis] < 2}
    for (n, axis), name in wished.items():
        if name in small:
            # A repeated piece keeps indices valid; an empty tensor has none, and zeros are valid for most.
            x = values[n]
            values[n] = x.index_select(axis, torch.zeros(3, dtype=torch.long)) if x.shape[axis] else \
                x.new_zeros([3 if i == axis % x.ndim else s for i, s in enumerate(x.shape)])
    return tuple(values[n] for n in names[:len(args)]), {n: values[n] for n in kwargs}


def _finish(program: Any, module: Any, args: tuple[Any, ...], kwargs: Any, title: str,
            wished: dict[tuple[str, int], str]) -> Captured:
    """Name the program's symbols after the dims that were asked for; others keep PyTorch's names."""
    dims: dict[str, str] = {}
    free: list[tuple[int, int, str]] = []
    users = [s.arg.name for s in program.graph_signature.input_specs if s.kind.name == "USER_INPUT"
             and hasattr(s.arg, "name")]
    placeholders = {n.name: n for n in program.graph.nodes if n.op == "placeholder"}
    for i, name in enumerate(users):
        value = placeholders[name].meta.get("val") if name in placeholders else None
        if not isinstance(value, torch.Tensor):
            continue
        for axis, size in enumerate(value.shape):
            if isinstance(size, torch.SymInt) and size.node.expr.is_Symbol:
                symbol = str(size.node.expr)
                wish = next((w for (n, a), w in wished.items() if a % value.ndim == axis and n == name), None)
                dims.setdefault(symbol, wish or symbol)
                if wish:
                    dims[symbol] = wish
                free.append((i, axis, symbol))
    return Captured(program, dims, module, args, dict(kwargs or {}), title, free)
