"""What primitive expressions mean, in numpy: a few lines each, slow and plain.

The compiler is held to this. Where C leaves something undefined (a float too large for an integer, a shift beyond the
width, an index outside), the meaning here is the one that holds: see each rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.dtypes import BOOL, DType
from gesher.base.errors import ModelError, RunError
from gesher.symbolic import Contradiction, Dim, Equalities
from gesher.symbolic import evaluate as number_of

from .expr import Expr, walk
from .shapes import DEMANDS, demanded
from .table import MAPS, REDUCTIONS, computing, identity

Array = np.ndarray


def evaluate(exprs: Sequence[Expr], feeds: Mapping[str, Any] | None = None,
             dims: Mapping[str, int] | None = None) -> list[Array]:
    """The numbers that expressions stand for.

    Args:
        exprs: what to compute (no bundles: their parts).
        feeds: an array for each `input`, by name.
        dims: values for symbols that the feeds' shapes do not settle, by name.

    Raises:
        RunError: a feed is missing or does not fit its type, or an index is outside.
    """
    feeds = {k: np.asarray(v) for k, v in (feeds or {}).items()}
    order = list(walk(exprs, meanings=True))
    inputs = [e for e in order if e.prim == "input"]
    symbols: dict[Any, int] = dict(dims or {})
    symbols.update(bind(inputs, feeds, symbols))
    run = _Run(feeds, symbols)
    return [run.value(e) for e in exprs]


def bind(inputs: Sequence[Expr], feeds: Mapping[str, Array], given: Mapping[Any, int]) -> dict[Any, int]:
    """The values of the symbols in the shapes of inputs, from the shapes that were fed.

    Raises:
        RunError: a feed is missing, has another type or rank, or sizes contradict each other.
    """
    values: dict[Any, int] = dict(given)
    later: list[tuple[str, Dim, int]] = []
    for e in inputs:
        name = e.params["name"]
        if name not in feeds:
            raise RunError(f"the input '{name}' was not fed")
        fed = feeds[name]
        if e.dtype.kind != "string" and fed.dtype != e.dtype.numpy:
            raise RunError(f"the input '{name}' is {fed.dtype}, not {e.dtype.name}")
        if fed.ndim != e.rank:
            raise RunError(f"the input '{name}' has {fed.ndim} axes, not {e.rank}")
        for d, n in zip(e.shape, fed.shape):
            if isinstance(d, Dim) and d.op == "sym":
                if values.setdefault(d, values.get(d.name, n)) != n:
                    raise RunError(f"the input '{name}' has a size {n} where {d} is {values[d]}")
            elif isinstance(d, Dim):
                later.append((name, d, n))
            elif d != n:
                raise RunError(f"the input '{name}' is {fed.shape}, not {e.shape}")
    known = Equalities()
    for name, d, n in later:
        if all(s in values or s.name in values for s in d.symbols()):
            if number_of(d, values) != n:
                raise RunError(f"the input '{name}' has a size {n} where {d} is {number_of(d, values)}")
            continue
        try:
            known.unify(d, n, f"the input '{name}'")
        except Contradiction as e:
            raise RunError(f"the input '{name}' has a size {n}, which {d} cannot be") from e
        for s in d.symbols():
            settled = known.resolve(s)
            if isinstance(settled, int):
                values[s] = settled
    return values


class _Run:
    """One evaluation. Values that depend on a loop's parameters live in a layer of their own, dropped each turn."""

    def __init__(self, feeds: Mapping[str, Array], symbols: Mapping[Any, int]):
        self.feeds, self.symbols = feeds, symbols
        self.values: dict[Expr, Any] = {}

    def size(self, d: Any) -> int:
        return number_of(d, self.symbols)

    def shape(self, shape: Sequence[Any]) -> tuple[int, ...]:
        return tuple(self.size(d) for d in shape)

    def value(self, root: Expr) -> Any:
        stack = [root]
        while stack:
            e = stack[-1]
            if e in self.values:
                stack.pop()
                continue
            needs = e.params["meaning"] if e.prim == "composite" else e.args
            waiting = [a for a in needs if a not in self.values]
            if waiting:
                stack.extend(waiting)
                continue
            self.values[e] = self.apply(e)
            stack.pop()
        return self.values[root]

    def apply(self, e: Expr) -> Any:
        if e.prim == "composite":
            return [self.values[m] for m in e.params["meaning"]]
        args = [self.values[a] for a in e.args]
        result = _rule(e.prim)(self, e, *args)
        if e.params.get("types") is not None:
            return result
        result = np.asarray(result)
        want = self.shape(e.shape)
        if result.shape != want:
            raise RunError(f"{e.prim} gives {result.shape}, its shape {e.shape} promised {want}")
        if e.dtype.kind != "string" and result.dtype != e.dtype.numpy:
            raise ModelError(f"{e.prim} gives {result.dtype}, its type promised {e.dtype.name}", rule="primitive-type")
        return result


def _rule(prim: str) -> Callable[..., Any]:
    return _elementwise if prim in MAPS else _RULES[prim]


def _wide(x: Array, dtype: DType) -> Array:
    wide = computing(dtype)
    return x if wide is dtype else x.astype(wide.numpy)


def _elementwise(run: _Run, e: Expr, *args: Array) -> Array:
    row, dtype = MAPS[e.prim], e.args[0].dtype
    with np.errstate(all="ignore"):
        return np.asarray(row.numpy(*(_wide(a, dtype) for a in args))).astype(e.dtype.numpy)


def convert(x: Array, source: DType, target: DType, saturate: bool = True) -> Array:
    """`cast`: see the builder. What does not fit an integer type is defined: the lowest value of int64 (for the 64-bit
    types and uint32) or int32, of which narrower types take the low bits."""
    if target is BOOL:
        return x != 0
    if source is BOOL or source.is_integer:
        if target.is_integer and target.bits < 8:
            # The low bits, with the sign of the narrow type.
            low = x.astype(np.int64) & ((1 << target.bits) - 1)
            if target.kind == "int":
                low = low - ((low >> (target.bits - 1)) << target.bits)
            return low.astype(np.int8 if target.kind == "int" else np.uint8).astype(target.numpy)
        x = x.astype(np.int8 if source.kind == "int" else np.uint8) if source.bits < 8 and source.is_integer else x
        return _to_float(x, target, saturate) if target.is_float else x.astype(target.numpy)
    if target.is_float:
        return _to_float(x, target, saturate)
    wide = np.trunc(x.astype(np.float64))
    if target.bits == 64 or target is dtypes.UINT32:
        fits = (wide >= -2.0**63) & (wide < 2.0**63)
        whole = np.where(fits, wide, -2.0**63).astype(np.int64)
        if target is dtypes.UINT64:
            high = (wide >= 2.0**63) & (wide < 2.0**64)
            upper = np.where(high, wide - 2.0**63, 0).astype(np.int64).astype(np.uint64) + np.uint64(1 << 63)
            return np.where(high, upper, whole.astype(np.uint64))
        return whole.astype(target.numpy)
    fits = (wide >= -2.0**31) & (wide < 2.0**31)
    whole32 = np.where(fits, wide, -2.0**31).astype(np.int32)
    return convert(whole32, dtypes.INT32, target) if target.bits < 8 else whole32.astype(target.numpy)


def _to_float(x: Array, target: DType, saturate: bool) -> Array:
    with np.errstate(all="ignore"):
        if target.bits >= 16:
            # Through float32 where C goes that way.
            if target.bits == 16 and x.dtype.kind in "iu" and x.dtype.itemsize > 2:
                x = x.astype(np.float32)
            if target is dtypes.BFLOAT16 and x.dtype == np.float64:
                x = x.astype(np.float32)
            return x.astype(target.numpy)
        narrow = x.astype(np.float32).astype(target.numpy)
        if not saturate:
            return narrow
        import ml_dtypes

        info = ml_dtypes.finfo(target.numpy)
        wide = x.astype(np.float32)
        clipped = np.clip(wide, float(info.min), float(info.max))
        return np.where(np.isnan(wide), narrow.astype(np.float32), clipped).astype(target.numpy)


def _hold(run: _Run, e: Expr, x: Array) -> Array:
    for kind, a, b in e.params["demands"]:
        a, b = run.size(a), run.size(b)
        if not demanded(kind, a, b):
            raise RunError(f"{e.params['what']}: a size of {a} meets one of {b}, and {DEMANDS[kind]}")
    return x


def _argreduce(run: _Run, e: Expr, x: Array) -> Array:
    x = _wide(x, e.args[0].dtype)
    axis = e.params["axis"]
    if not x.shape[axis]:
        raise RunError(f"arg{e.params['op']} over an axis of size 0")
    pick = np.argmax if e.params["op"] == "max" else np.argmin
    if not e.params["last"]:
        return pick(x, axis)
    return x.shape[axis] - 1 - pick(np.flip(x, axis), axis)


def _reduce(run: _Run, e: Expr, x: Array) -> Array:
    op, axes, dtype = e.params["op"], e.params["axes"], e.dtype
    wide = _wide(x, dtype)
    with np.errstate(all="ignore"):
        out = REDUCTIONS[op].ufunc.reduce(wide, axis=axes, dtype=wide.dtype, initial=identity(op, computing(dtype)))
    return np.asarray(out).astype(dtype.numpy)


def _cumulate(run: _Run, e: Expr, x: Array) -> Array:
    op, axis, dtype = e.params["op"], e.params["axis"], e.dtype
    wide = _wide(x, dtype)
    if e.params["reverse"]:
        wide = np.flip(wide, axis)
    with np.errstate(all="ignore"):
        out = REDUCTIONS[op].ufunc.accumulate(wide, axis=axis, dtype=wide.dtype)
    if e.params["exclusive"]:
        first = np.full_like(np.take(out, [0], axis) if out.shape[axis] else out, identity(op, computing(dtype)))
        out = np.concatenate([first, np.take(out, np.arange(max(out.shape[axis] - 1, 0)), axis)], axis)
    if e.params["reverse"]:
        out = np.flip(out, axis)
    return out.astype(dtype.numpy)


def _contract(run: _Run, e: Expr, a: Array, b: Array) -> Array:
    p = e.params
    a_rest = [i for i in range(a.ndim) if i not in p["a_axes"] and i not in p["a_batch"]]
    b_rest = [i for i in range(b.ndim) if i not in p["b_axes"] and i not in p["b_batch"]]
    batch = [a.shape[i] for i in p["a_batch"]]
    rows, columns = [a.shape[i] for i in a_rest], [b.shape[i] for i in b_rest]
    k = int(np.prod([a.shape[i] for i in p["a_axes"]], dtype=np.int64))
    n = int(np.prod(batch, dtype=np.int64))
    left = _wide(a, e.dtype).transpose(*p["a_batch"], *a_rest, *p["a_axes"]).reshape(
        n, int(np.prod(rows, dtype=np.int64)), k)
    right = _wide(b, e.dtype).transpose(*p["b_batch"], *p["b_axes"], *b_rest).reshape(
        n, k, int(np.prod(columns, dtype=np.int64)))
    with np.errstate(all="ignore"):
        return np.matmul(left, right).reshape((*batch, *rows, *columns)).astype(e.dtype.numpy)


def _windows(x: Array, size: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Array:
    """Views of x's trailing axes: (..., places, window)."""
    n = len(size)
    lead = x.ndim - n
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilations)]
    if any(r > s for r, s in zip(reach, x.shape[lead:])):
        places = [max((s - r) // t + 1, 0) for r, s, t in zip(reach, x.shape[lead:], strides)]
        return np.zeros((*x.shape[:lead], *places, *size), x.dtype)
    view = np.lib.stride_tricks.sliding_window_view(x, reach, tuple(range(lead, x.ndim))) if n else x
    return view[(*[slice(None)] * lead, *[slice(None, None, s) for s in strides],
                 *[slice(None, None, d) for d in dilations])]


def _pad_array(x: Array, pads: Sequence[Sequence[int]], value: Any) -> Array:
    lead = x.ndim - len(pads)
    return np.pad(x, [(0, 0)] * lead + [(p[0], p[1]) for p in pads], constant_values=value)


def _convolve(run: _Run, e: Expr, x: Array, w: Array) -> Array:
    p, n = e.params, x.ndim - 2
    groups = p["groups"]
    x, w = _wide(x, e.dtype), _wide(w, e.dtype)
    padded = _pad_array(x, [run.shape(q) for q in p["pads"]], 0)
    views = _windows(padded, w.shape[2:], p["strides"], p["dilations"])
    views = views.reshape(x.shape[0], groups, w.shape[1], *views.shape[2:])
    filters = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    inner_axes = [1, *range(2 + n, 2 + 2 * n)]
    with np.errstate(all="ignore"):
        # Of each group: places (N, C, *places, *window) times filters (M, C, *window) summed over C and the window.
        out = [np.tensordot(views[:, g], filters[g], (inner_axes, [1, *range(2, 2 + n)])) for g in range(groups)]
    stacked = np.stack(out, 1) if out else np.zeros((x.shape[0], 0, *views.shape[3:3 + n], 0), x.dtype)
    return np.moveaxis(stacked, -1, 2).reshape(run.shape(e.shape)).astype(e.dtype.numpy)


def _convolve_transposed(run: _Run, e: Expr, x: Array, w: Array) -> Array:
    p = e.params
    groups, strides, dilations = p["groups"], p["strides"], p["dilations"]
    x, w = _wide(x, e.dtype), _wide(w, e.dtype)
    out_shape = run.shape(e.shape)
    pads = [run.shape(q) for q in p["pads"]]
    # Everything is spread over a canvas that is large enough, from which the pads are then cut.
    canvas = [max((d - 1) * s + (k - 1) * dil + 1, lo + o) for d, k, s, dil, (lo, _), o in
              zip(x.shape[2:], w.shape[2:], strides, dilations, pads, out_shape[2:])]
    full = np.zeros((x.shape[0], groups, w.shape[1], *canvas), x.dtype)
    grouped = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    filters = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    with np.errstate(all="ignore"):
        for offset in np.ndindex(*w.shape[2:]):
            place = tuple(slice(o * dil, o * dil + (d - 1) * s + 1, s) if d else slice(0, 0)
                          for o, d, s, dil in zip(offset, x.shape[2:], strides, dilations))
            part = np.einsum("ngc...,gcm->ngm...", grouped, filters[(slice(None),) * 3 + offset])
            full[(slice(None),) * 3 + place] += part
    cut = full.reshape(x.shape[0], groups * w.shape[1], *canvas)[
        (slice(None), slice(None), *(slice(lo, lo + o) for (lo, _), o in zip(pads, out_shape[2:])))]
    return cut.reshape(out_shape).astype(e.dtype.numpy)


def _window(run: _Run, e: Expr, x: Array) -> Array:
    p, n = e.params, len(e.params["size"])
    wide = _wide(x, e.dtype)
    nothing = identity(p["op"], computing(e.dtype))
    padded = _pad_array(wide, [run.shape(q) for q in p["pads"]], nothing)
    views = _windows(padded, p["size"], p["strides"], p["dilations"])
    with np.errstate(all="ignore"):
        out = REDUCTIONS[p["op"]].ufunc.reduce(views, axis=tuple(range(views.ndim - n, views.ndim)), dtype=wide.dtype,
                                               initial=nothing)
    return np.asarray(out).astype(e.dtype.numpy)


def inside(indices: Array, size: int, prim: str) -> Array:
    """Indices with negative ones counted from the end.

    Raises:
        RunError: one is outside.
    """
    indices = indices.astype(np.int64)
    if np.any((indices < -size) | (indices >= size)):
        raise RunError(f"{prim}: an index is outside -{size} ... {size - 1}")
    return np.where(indices < 0, indices + size, indices)


def _gather(run: _Run, e: Expr, x: Array, indices: Array) -> Array:
    axis = e.params["axis"]
    return np.take(x, inside(indices, x.shape[axis], "gather"), axis)


def _along(x: Array, indices: Array, axis: int, prim: str) -> tuple[Array, ...]:
    if any(a > b for i, (a, b) in enumerate(zip(indices.shape, x.shape)) if i != axis):
        raise RunError(f"{prim}: the indices {indices.shape} reach outside {x.shape}")
    places: list[Array] = list(np.indices(indices.shape, sparse=True))
    places[axis] = inside(indices, x.shape[axis], prim)
    return tuple(np.broadcast_arrays(*places))


def _coordinates(x: Array, indices: Array, batch: int, prim: str) -> tuple[Array, ...]:
    depth = indices.shape[-1]
    places = [inside(indices[..., i], x.shape[batch + i], prim) for i in range(depth)]
    lead = indices.ndim - 1
    grid = [np.arange(d).reshape([-1 if i == a else 1 for i in range(lead)]) for a, d in enumerate(x.shape[:batch])]
    return (*grid, *places)


_UPDATES = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _scatter(out: Array, places: tuple[Array, ...], updates: Array, reduction: str, dtype: DType) -> Array:
    wide = _wide(out, dtype).copy()
    updates = np.broadcast_to(_wide(updates, dtype), wide[places].shape)
    if reduction == "none":
        # One by one where it matters, so that the last of equal places wins.
        flat = np.arange(wide.size).reshape(wide.shape)[places].reshape(-1)
        last = {int(place): i for i, place in enumerate(flat.tolist())}
        chosen = np.array(list(last.values()), np.int64)
        wide.reshape(-1)[flat[chosen]] = updates.reshape(-1)[chosen]
    else:
        with np.errstate(all="ignore"):
            _UPDATES[reduction].at(wide, places, updates)
    return wide.astype(out.dtype)


def _scatter_along(run: _Run, e: Expr, x: Array, indices: Array, updates: Array) -> Array:
    return _scatter(x, _along(x, indices, e.params["axis"], e.prim), updates, e.params["reduction"], e.dtype)


def _scatter_nd(run: _Run, e: Expr, x: Array, indices: Array, updates: Array) -> Array:
    return _scatter(x, _coordinates(x, indices, 0, e.prim), updates, e.params["reduction"], e.dtype)


def _sort_order(run: _Run, e: Expr, x: Array) -> Array:
    x, axis = _wide(x, e.args[0].dtype), e.params["axis"]
    if not e.params["descending"]:
        return np.argsort(x, axis, kind="stable")
    # Sorting backwards and turning round twice keeps equals in their order.
    backward = np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    return x.shape[axis] - 1 - backward


def _loop(run: _Run, e: Expr, count: Array, *args: Array) -> list[Array]:
    p = e.params
    carried, scanned = list(args[:p["carried"]]), args[p["carried"]:]
    stacked: list[list[Array]] = [[] for _ in p["stacked_out"]]
    roots = (*p["carried_out"], *p["stacked_out"])
    going = p["going"]
    for i in range(int(count)):
        if going is not None and not carried[going]:
            break
        turn = _Run(run.feeds, run.symbols)
        # The outer values are shared, those of this turn are not kept.
        turn.values = _Layer(run.values)
        slices = [s[i] for s in scanned]
        turn.values.update(zip(p["parameters"], [np.int64(i), *carried, *slices]))
        results = [turn.value(r) for r in roots]
        carried = results[:len(carried)]
        for pile, item in zip(stacked, results[len(carried):]):
            pile.append(item)
    empty = [np.zeros((0, *run.shape(s.shape)), s.dtype.numpy) for s in p["stacked_out"]]
    return [*carried, *(np.stack(pile) if pile else none for pile, none in zip(stacked, empty))]


class _Layer(dict):
    """Values of one turn over the values outside; what does not depend on the turn is written outside."""

    def __init__(self, outer: dict[Expr, Any]):
        super().__init__()
        self.outer = outer

    def __contains__(self, e: object) -> bool:
        return super().__contains__(e) or e in self.outer

    def __getitem__(self, e: Expr) -> Any:
        return super().__getitem__(e) if super().__contains__(e) else self.outer[e]

    def __setitem__(self, e: Expr, value: Any) -> None:
        if e.scopes:
            super().__setitem__(e, value)
        else:
            self.outer[e] = value


def _branch(run: _Run, e: Expr, cond: Array) -> list[Array]:
    return [run.value(x) for x in e.params["then" if cond else "other"]]


def _constant(run: _Run, e: Expr) -> Array:
    value = e.params["value"]
    return value if isinstance(value, np.ndarray) else value.numpy()


def _iota(run: _Run, e: Expr) -> Array:
    shape, axis = run.shape(e.shape), e.params["axis"]
    line = convert(np.arange(shape[axis], dtype=np.int64), dtypes.INT64, e.dtype)
    return np.broadcast_to(line.reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape)


def _reshape(run: _Run, e: Expr, x: Array) -> Array:
    shape = run.shape(e.shape)
    if int(np.prod(shape, dtype=np.int64)) != x.size:
        raise RunError(f"{x.shape} cannot be reshaped to {shape}")
    return x.reshape(shape)


def _broadcast(run: _Run, e: Expr, x: Array) -> Array:
    shape = run.shape(e.shape)
    try:
        return np.broadcast_to(x, shape)
    except ValueError as error:
        raise RunError(f"{x.shape} cannot be repeated to {shape}") from error


def _slice(run: _Run, e: Expr, x: Array) -> Array:
    starts, stops, steps = (run.shape(e.params[k]) for k in ("starts", "stops", "steps"))
    for d, a, b, s, n in zip(x.shape, starts, stops, steps, run.shape(e.shape)):
        last = a + (n - 1) * s
        if n and not (0 <= a < d and 0 <= last < d):
            raise RunError(f"the slice {a}:{b}:{s} reaches outside a size of {d}")
    index = tuple(slice(a, None if b < 0 else b, s) if n else slice(0, 0)
                  for a, b, s, n in zip(starts, stops, steps, run.shape(e.shape)))
    return x[index]


def _pad(run: _Run, e: Expr, x: Array, value: Array) -> Array:
    low, high = run.shape(e.params["low"]), run.shape(e.params["high"])
    if any(p < 0 for p in (*low, *high)):
        raise RunError(f"a padding is negative in {low} {high}")
    out = np.empty([lo + d + hi for lo, d, hi in zip(low, x.shape, high)], x.dtype)
    out[...] = value
    out[tuple(slice(lo, lo + d) for lo, d in zip(low, x.shape))] = x
    return out


def _is_inf(run: _Run, e: Expr, x: Array) -> Array:
    wide = _wide(x, e.args[0].dtype)
    return (np.isposinf(wide) & e.params["positive"]) | (np.isneginf(wide) & e.params["negative"])


def _gather_along(run: _Run, e: Expr, x: Array, indices: Array) -> Array:
    return x[_along(x, indices, e.params["axis"], e.prim)]


def _input(run: _Run, e: Expr) -> Array:
    if e.params["name"] not in run.feeds:
        raise RunError(f"the input '{e.params['name']}' was not fed")
    return run.feeds[e.params["name"]]


def _outside(run: _Run, e: Expr) -> Array:
    raise ModelError("a loop's parameter stands outside its loop", rule="primitive-type")


_RULES: dict[str, Callable[..., Any]] = {
    "input": _input, "constant": _constant, "parameter": _outside, "iota": _iota,
    "size": lambda run, e: np.int64(run.size(e.params["dim"])),
    "is_inf": _is_inf, "select": lambda run, e, c, a, b: np.where(c, a, b),
    "cast": lambda run, e, x: convert(x, e.args[0].dtype, e.dtype, e.params["saturate"]),
    "bitcast": lambda run, e, x: np.ascontiguousarray(x).view(e.dtype.numpy).reshape(x.shape),
    "broadcast": _broadcast, "hold": _hold, "reshape": _reshape, "slice": _slice, "pad": _pad,
    "transpose": lambda run, e, x: np.transpose(x, e.params["perm"]),
    "concat": lambda run, e, *xs: np.concatenate(xs, e.params["axis"]),
    "gather": _gather, "gather_along": _gather_along,
    "gather_nd": lambda run, e, x, i: x[_coordinates(x, i, e.params["batch_dims"], e.prim)],
    "scatter_along": _scatter_along, "scatter_nd": _scatter_nd,
    "reduce": _reduce, "argreduce": _argreduce, "cumulate": _cumulate,
    "contract": _contract, "convolve": _convolve, "convolve_transposed": _convolve_transposed, "window": _window,
    "sort_order": _sort_order, "loop": _loop, "branch": _branch,
    "item": lambda run, e, bundle: bundle[e.params["index"]],
}
