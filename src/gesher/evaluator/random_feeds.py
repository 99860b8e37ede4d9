"""Inputs for a model when there are none at hand: random numbers of the declared types and shapes.

Nothing is guessed: a symbolic dim needs a size from the caller. Only the first dim of an input, which is nearly always
the batch, is 1 where nobody says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import RunError
from gesher.ir import DimLike, Model, SequenceType, TensorType
from gesher.symbolic import Dim, evaluate

from .feeds import Feeds


def random_feeds(model: Model, *, dims: Mapping[str, int] | None = None,
                 shapes: Mapping[str, Sequence[int]] | None = None, seed: int = 0,
                 fixed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Random inputs for every input of `model` that has no default.

    Floats are standard normal, integers 0 or 1 (so that they are valid as indices), bools fair, strings short words.

    Args:
        dims: sizes of symbolic dims by name.
        shapes: whole shapes by input name; they win over `dims`.
        seed: of the generator; the same seed gives the same numbers.
        fixed: inputs that are given; they are passed on, and their shapes settle symbolic dims.

    Raises:
        RunError: a dim has no size, or an input is no tensor.

    The error names every dim that is missing, so one more call suffices.
    """
    rng = np.random.default_rng(seed)
    sizes = dict(dims or {})
    declared = Feeds(model.graph, model.ir_version)
    fixed = dict(fixed or {})
    names = set(declared.types)
    for name in (*(shapes or {}), *fixed):
        if name not in names:
            known = "; ".join(f"{n}: {t or '?'}" for n, t in declared.types.items())
            raise RunError(f"the model has no input '{name}'", advice=f"its inputs are {known}")
    used: set[str] = set()
    for name, type in declared.types.items():
        given = (shapes or {}).get(name) or getattr(fixed.get(name), "shape", None)
        if isinstance(type, TensorType) and type.shape is not None:
            used |= {s.name for d in type.shape if isinstance(d, Dim) for s in d.symbols()}
            if given is not None:
                for d, n in zip(type.shape, given):
                    if isinstance(d, Dim) and d.op == "sym":
                        sizes.setdefault(d.name, n)
    for name in dims or {}:
        if name not in used:
            raise RunError(f"the model has no dim '{name}'",
                           advice=f"its dims are {', '.join(sorted(used))}" if used else "all its dims are fixed")
    # A declared size of 0 counts as unknown when feeding; at random it is what it says.
    empty = {v.name: {axis for axis, d in enumerate(v.type.shape) if d == 0} for v in model.graph.inputs
             if isinstance(v.type, TensorType) and v.type.shape is not None}
    feeds: dict[str, Any] = {}
    lacking: list[str] = []
    for name, type in declared.types.items():
        if name in fixed:
            feeds[name] = fixed[name]
            continue
        if name not in declared.required:
            continue
        if isinstance(type, SequenceType) or not isinstance(type, TensorType):
            raise RunError(f"the input '{name}' is {type}: only tensors can be made at random",
                           advice="give it yourself")
        if shapes and name in shapes:
            shape = list(shapes[name])
        elif type.shape is None:
            lacking.append(f"the shape of '{name}' (its rank is unknown)")
            continue
        else:
            shape = []
            for axis, d in enumerate(type.shape):
                n = 0 if axis in empty[name] else _size(d, axis, sizes)
                if n is None:
                    lacking.append(f"dim {axis} of '{name}', {type}")
                else:
                    shape.append(n)
            if len(shape) != len(type.shape):
                continue
        try:
            feeds[name] = random_array(type.dtype, shape, rng)
        except (MemoryError, ValueError) as e:
            raise RunError(f"the input '{name}', {type}, is too large to be made here: {e}",
                           advice="give smaller sizes") from None
    if lacking:
        raise RunError("sizes are needed for " + "; ".join(lacking),
                       advice="give them by name (--dim seq=16) or as whole shapes (--shape x=1x3x224x224)")
    return feeds


def _size(d: DimLike | None, axis: int, sizes: Mapping[str, int]) -> int | None:
    if isinstance(d, int):
        return d
    if d is not None and all(s.name in sizes for s in d.symbols()):
        return int(evaluate(d, dict(sizes)))
    return 1 if axis == 0 else None


def random_array(dtype: DType, shape: Sequence[int], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """One random array; see `random_feeds` for what each type gets."""
    if dtype is dtypes.UNDEFINED:
        raise RunError("an input without a data type cannot be made at random")
    if dtype is dtypes.STRING:
        letters = np.array(list("abcdefgh"))
        words = ["".join(rng.choice(letters, 3)) for _ in range(int(np.prod(shape)))]
        out = np.empty(len(words), object)
        out[:] = words
        return out.reshape(tuple(shape))
    if dtype is dtypes.BOOL:
        return rng.random(shape) < 0.5
    if dtype.kind in ("int", "uint"):
        return rng.integers(0, 2, shape).astype(dtype.numpy)
    if dtype.kind == "complex":
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype.numpy)
    return rng.standard_normal(shape).astype(dtype.numpy)
