"""What primitives mean, in PyTorch: a few lines each, differentiable wherever the primitive is.

Every rule takes the expression and its carried operands (see `carriers`). Sizes are numbers: a node is lowered anew
for each set of shapes. Floats of 16 bits are computed in float32 and rounded once per primitive, as the primitives'
own meaning says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from typing import cast as cast_type

import torch

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.base.errors import RunError
from gesher.primitives import Expr
from gesher.primitives.shapes import DEMANDS, demanded
from gesher.primitives.table import computing, identity

from . import windows
from .carriers import NATIVE, cast, from_array, to_array
from .maps import MAPS

Tensor = torch.Tensor


def shape_of(e: Expr) -> tuple[int, ...]:
    """The shape of an expression; a program has numbers only."""
    return cast_type("tuple[int, ...]", e.shape)


Rule = Callable[..., Any]


def wide(x: Tensor, dtype: DType) -> Tensor:
    """A tensor of `dtype` in the type that it is computed in."""
    return x.float() if dtype.is_float and dtype.bits == 16 else x


def rounded(x: Tensor, dtype: DType) -> Tensor:
    """What was computed wide, in its own type again."""
    computed = computing(dtype)
    return x if computed is dtype else cast(x, computed, dtype, False)


def elementwise(e: Expr, *xs: Tensor) -> Tensor:
    dtype = e.args[0].dtype
    made = MAPS[e.prim](*(wide(x, dtype) for x in xs))
    return made if e.dtype is dtypes.BOOL and dtype is not dtypes.BOOL else rounded(made, e.dtype)


def _select(e: Expr, cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(cond, a, b)


def _is_inf(e: Expr, x: Tensor) -> Tensor:
    return (torch.isposinf(x) & e.params["positive"]) | (torch.isneginf(x) & e.params["negative"])


def _hold(e: Expr, x: Tensor) -> Tensor:
    for kind, a, b in e.params["demands"]:
        if not demanded(kind, a, b):
            raise RunError(f"{e.params['what']}: a size of {a} meets one of {b}, and {DEMANDS[kind]}")
    return x


def _reshape(e: Expr, x: Tensor) -> Tensor:
    return x.reshape(shape_of(e))


def _slice(e: Expr, x: Tensor) -> Tensor:
    for axis, (start, step, n) in enumerate(zip(e.params["starts"], e.params["steps"], e.shape)):
        size = x.shape[axis]
        last = start + (n - 1) * step
        if n and not (0 <= start < size and 0 <= last < size):
            raise RunError(f"a slice from {start} by {step} reaches outside a size of {size}")
        if n == size and start == 0 and step == 1:
            continue
        if not n:
            x = x.narrow(axis, 0, 0)
        elif step > 0:
            x = x[(slice(None),) * axis + (slice(start, last + 1, step),)]
        else:
            x = x[(slice(None),) * axis + (slice(last, start + 1, -step),)].flip(axis)
    return x


def _pad(e: Expr, x: Tensor, value: Tensor) -> Tensor:
    low, high = e.params["low"], e.params["high"]
    if any(p < 0 for p in (*low, *high)):
        raise RunError(f"a padding is negative in {low} {high}")
    out = value.expand(shape_of(e)).clone()
    out[tuple(slice(lo, lo + d) for lo, d in zip(low, x.shape))] = x
    return out


# Indices


def inside(indices: Tensor, size: int, prim: str) -> Tensor:
    """Indices as int64 with negative ones counted from the end.

    Raises:
        RunError: one is outside.
    """
    indices = indices.to(torch.int64)
    if not torch.compiler.is_compiling() and bool(((indices < -size) | (indices >= size)).any()):
        raise RunError(f"{prim}: an index is outside -{size} ... {size - 1}")
    return torch.where(indices < 0, indices + size, indices)


def _gather(e: Expr, x: Tensor, indices: Tensor) -> Tensor:
    axis = e.params["axis"]
    found = x.index_select(axis, inside(indices, x.shape[axis], "gather").reshape(-1))
    return found.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1:]))


def _gather_along(e: Expr, x: Tensor, indices: Tensor) -> Tensor:
    axis = e.params["axis"]
    if any(a > b for i, (a, b) in enumerate(zip(indices.shape, x.shape)) if i != axis):
        raise RunError(f"{e.prim}: the indices {tuple(indices.shape)} reach outside {tuple(x.shape)}")
    return torch.gather(x, axis, inside(indices, x.shape[axis], e.prim))


def _gather_nd(e: Expr, x: Tensor, indices: Tensor) -> Tensor:
    batch, depth = e.params["batch_dims"], indices.shape[-1]
    lead = indices.ndim - 1
    grid = [torch.arange(d, device=x.device).reshape([-1 if i == a else 1 for i in range(lead)])
            for a, d in enumerate(x.shape[:batch])]
    places = [inside(indices[..., i], x.shape[batch + i], e.prim) for i in range(depth)]
    return x[(*grid, *places)]


_SCATTERS = {"mul": "prod", "max": "amax", "min": "amin"}


def _scattered(x: Tensor, places: Tensor, updates: Tensor, reduction: str) -> Tensor:
    """x (P, *) with updates (N, *) at rows `places` (N): of equal places the last wins, or all are folded."""
    if not places.numel():
        return x
    if reduction == "none":
        # Which update stands at a row in the end; so only that one has a gradient.
        order = torch.arange(len(places), device=x.device)
        winner = torch.full((len(x),), -1, dtype=torch.int64, device=x.device).scatter_reduce(
            0, places, order, "amax", include_self=True)
        taken = updates.index_select(0, winner.clamp(min=0))
        return torch.where((winner >= 0).reshape(-1, *(1,) * (x.ndim - 1)), taken, x)
    if reduction == "add":
        return x.index_add(0, places, updates)
    index = places.reshape(-1, *(1,) * (x.ndim - 1)).expand_as(updates)
    return x.scatter_reduce(0, index, updates, _SCATTERS[reduction], include_self=True)


def _scatter_along(e: Expr, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    axis = e.params["axis"]
    if any(a > b for i, (a, b) in enumerate(zip(indices.shape, x.shape)) if i != axis):
        raise RunError(f"{e.prim}: the indices {tuple(indices.shape)} reach outside {tuple(x.shape)}")
    place = torch.zeros_like(indices, dtype=torch.int64)
    for i, size in enumerate(x.shape):
        at = inside(indices, size, e.prim) if i == axis else torch.arange(
            indices.shape[i], device=x.device).reshape([-1 if j == i else 1 for j in range(x.ndim)])
        place = place * size + at
    made = _scattered(wide(x, e.dtype).reshape(-1), place.reshape(-1), wide(updates, e.dtype).reshape(-1),
                      e.params["reduction"])
    return rounded(made.reshape(x.shape), e.dtype)


def _scatter_nd(e: Expr, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    depth = indices.shape[-1]
    place = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=x.device)
    for i in range(depth):
        place = place * x.shape[i] + inside(indices[..., i], x.shape[i], e.prim)
    rows = 1
    for d in x.shape[:depth]:
        rows *= d
    rest = x.shape[depth:]
    made = _scattered(wide(x, e.dtype).reshape(rows, *rest), place.reshape(-1),
                      wide(updates, e.dtype).reshape(place.numel(), *rest), e.params["reduction"])
    return rounded(made.reshape(x.shape), e.dtype)


# Reductions and order


def _reduce(e: Expr, x: Tensor) -> Tensor:
    op, axes = e.params["op"], e.params["axes"]
    x = wide(x, e.dtype)
    if any(x.shape[a] == 0 for a in axes) and op in ("max", "min"):
        return torch.full(shape_of(e), identity(op, e.dtype), dtype=NATIVE[e.dtype], device=x.device)
    if op == "sum":
        made = x.sum(axes, dtype=x.dtype)
    elif op == "prod":
        made = x
        for a in sorted(axes, reverse=True):
            made = made.prod(a, dtype=x.dtype)
    elif op in ("max", "min"):
        made = x.amax(axes) if op == "max" else x.amin(axes)
    else:
        made = x.any(axes) if op == "any" else x.all(axes)
    return rounded(made, e.dtype)


def _argreduce(e: Expr, x: Tensor) -> Tensor:
    axis = e.params["axis"]
    if not x.shape[axis]:
        raise RunError(f"arg{e.params['op']} over an axis of size 0")
    pick = torch.argmax if e.params["op"] == "max" else torch.argmin
    if not e.params["last"]:
        return pick(x, axis)
    return x.shape[axis] - 1 - pick(x.flip(axis), axis)


def _cumulate(e: Expr, x: Tensor) -> Tensor:
    op, axis = e.params["op"], e.params["axis"]
    x = wide(x, e.dtype)
    x = x.flip(axis) if e.params["reverse"] else x
    if not x.numel():
        return rounded(x, e.dtype)
    if op == "sum":
        out = x.cumsum(axis, dtype=x.dtype)
    elif op == "prod":
        out = x.cumprod(axis, dtype=x.dtype)
    else:
        out = (x.cummax(axis) if op == "max" else x.cummin(axis)).values
    if e.params["exclusive"]:
        first = torch.full_like(out.narrow(axis, 0, 1), identity(op, computing(e.dtype)))
        out = torch.cat([first, out.narrow(axis, 0, out.shape[axis] - 1)], axis)
    return rounded(out.flip(axis) if e.params["reverse"] else out, e.dtype)


def _sort_order(e: Expr, x: Tensor) -> Tensor:
    x = x.to(torch.uint8) if x.dtype is torch.bool else x
    return torch.sort(x, dim=e.params["axis"], descending=e.params["descending"], stable=True).indices


# Products


def _contract(e: Expr, a: Tensor, b: Tensor) -> Tensor:
    p = e.params
    a, b = wide(a, e.dtype), wide(b, e.dtype)
    a_rest = [i for i in range(a.ndim) if i not in p["a_axes"] and i not in p["a_batch"]]
    b_rest = [i for i in range(b.ndim) if i not in p["b_axes"] and i not in p["b_batch"]]
    batch = [a.shape[i] for i in p["a_batch"]]
    rows, columns = [a.shape[i] for i in a_rest], [b.shape[i] for i in b_rest]
    shared = _count([a.shape[i] for i in p["a_axes"]])
    left = a.permute(*p["a_batch"], *a_rest, *p["a_axes"]).reshape(_count(batch), _count(rows), shared)
    right = b.permute(*p["b_batch"], *p["b_axes"], *b_rest).reshape(_count(batch), shared, _count(columns))
    made = torch.matmul(left[0], right[0]) if not batch else torch.matmul(left, right)
    return rounded(made.reshape((*batch, *rows, *columns)), e.dtype)


def _count(sizes: Sequence[int]) -> int:
    n = 1
    for s in sizes:
        n *= s
    return n


def _convolve(e: Expr, x: Tensor, w: Tensor) -> Tensor:
    p = e.params
    made = windows.convolve(wide(x, e.dtype), wide(w, e.dtype), p["strides"], p["pads"], p["dilations"], p["groups"],
                            shape_of(e))
    return rounded(made, e.dtype)


def _convolve_transposed(e: Expr, x: Tensor, w: Tensor) -> Tensor:
    p = e.params
    made = windows.convolve_transposed(wide(x, e.dtype), wide(w, e.dtype), p["strides"], p["pads"], p["dilations"],
                                       p["groups"], shape_of(e))
    return rounded(made, e.dtype)


def _window(e: Expr, x: Tensor) -> Tensor:
    p = e.params
    made = windows.fold(wide(x, e.dtype), p["op"], p["size"], p["strides"], p["pads"], p["dilations"],
                        identity(p["op"], computing(e.dtype)), shape_of(e))
    return rounded(made, e.dtype)


RULES: dict[str, Rule] = {
    "select": _select, "is_inf": _is_inf, "hold": _hold, "reshape": _reshape, "slice": _slice, "pad": _pad,
    "broadcast": lambda e, x: x.expand(e.shape),
    "transpose": lambda e, x: x.permute(e.params["perm"]),
    "concat": lambda e, *xs: torch.cat(xs, e.params["axis"]),
    "cast": lambda e, x: cast(x, e.args[0].dtype, e.dtype, e.params["saturate"]),
    "gather": _gather, "gather_along": _gather_along, "gather_nd": _gather_nd, "scatter_along": _scatter_along,
    "scatter_nd": _scatter_nd, "reduce": _reduce, "argreduce": _argreduce, "cumulate": _cumulate,
    "sort_order": _sort_order, "contract": _contract, "convolve": _convolve,
    "convolve_transposed": _convolve_transposed, "window": _window,
    **dict.fromkeys(MAPS, elementwise),
}


def leaf(e: Expr, device: torch.device | None) -> Any:
    """What an expression without operands stands for: a constant, a size, a ramp.

    Raises:
        RunError: it is none of these.
    """
    if e.prim == "constant":
        value = e.params["value"]
        return from_array(value if not hasattr(value, "nbytes") or not callable(getattr(value, "numpy", None))
                          else value.numpy(), e.dtype, device)
    if e.prim == "size":
        return torch.tensor(e.params["dim"], dtype=torch.int64, device=device)
    if e.prim == "iota" and e.dtype in NATIVE:
        axis = e.params["axis"]
        line = torch.arange(shape_of(e)[axis], device=device).to(NATIVE[e.dtype])
        return line.reshape([-1 if i == axis else 1 for i in range(len(e.shape))]).expand(shape_of(e))
    raise RunError(f"a {e.prim} of {e.dtype.name} cannot be made in PyTorch")


def by_numpy(e: Expr, args: Sequence[Any]) -> Any:
    """A primitive over a type that PyTorch does not compute with, by its meaning in numpy."""
    from gesher.primitives import evaluate
    from gesher.primitives.builder import Builder

    p = Builder()
    inputs = [p.input(f"x{i}", a.dtype, a.shape) for i, a in enumerate(e.args)]
    copy = p.make(e.prim, inputs, dict(e.params), e.dtype, e.shape)
    feeds = {f"x{i}": to_array(v, a.dtype) for i, (v, a) in enumerate(zip(args, e.args))}
    [made] = evaluate([copy], feeds)
    return from_array(made, e.dtype)


