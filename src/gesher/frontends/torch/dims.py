"""Which dims of which tensors shall be free, and what examples of other sizes look like.

A dim is asked for by name, or as an expression of names: where the mask of a decoder covers past and new tokens, its
second dim is "past + sequence". Dims of one name are one size. `dynamic` may be

    True                                            the first dim of every tensor is "batch"
    {"x": {0: "batch", 2: "height"}}                by axis; {"x": ("batch", None, "height")} says the same
    {"past_key_values": {0: "batch", 2: "past"}}    all tensors in an argument that is packed
    {"cache.0.key": {2: "past"}}                    one of them, by its own name

and instead of a name a `torch.export.Dim`, whose least and greatest size count. `ranges={"height": (32, 512)}` says
them without. A free dim is 1 or larger where nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from gesher.base.errors import RunError, UnsupportedError
from gesher.ir import DimLike
from gesher.symbolic import Dim, evaluate, is_symbol, parse, sym

Leaves = Sequence[tuple[str, Any]]
Place = tuple[int, int]
"""A leaf's number, and an axis of it."""


@dataclass(slots=True)
class Asked:
    """The free dims that were asked for.

    Attributes:
        sizes: what each dim is, over named symbols.
        example: the size of each symbol in the example.
        ranges: the least and the greatest size of each symbol; None is no limit.
    """

    sizes: dict[Place, Dim] = field(default_factory=dict)
    example: dict[str, int] = field(default_factory=dict)
    ranges: dict[str, tuple[int, int | None]] = field(default_factory=dict)

    def names(self) -> list[str]:
        return list(self.ranges)


def asked(leaves: Leaves, dynamic: Any, ranges: Mapping[str, Sequence[int | None]] | None = None) -> Asked:
    """Read `dynamic` for these leaves.

    Raises:
        UnsupportedError: it names what is not there, or dims of one name that have several sizes in the example.
    """
    result = Asked()
    for place, wish in _wishes(leaves, dynamic):
        size, limits = _size(wish, leaves[place[0]][0], place[1])
        result.sizes[place] = size
        for s in sorted(symbols_of(size)):
            low, high = limits if is_symbol(size) else (1, None)
            was = result.ranges.get(s)
            result.ranges[s] = (low, high) if was is None or limits != (1, None) else was
    for name, (least, most) in (ranges or {}).items():
        if name not in result.ranges:
            raise UnsupportedError(f"there is no free dim '{name}' to have a range", who="torch",
                                   advice="the free dims are " + (", ".join(result.ranges) or "none"))
        result.ranges[name] = (1 if least is None else least, most)
    result.example = _solved(leaves, result.sizes)
    return result


def symbols_of(size: DimLike) -> set[str]:
    """The names in an expression."""
    return {d.name for d in size.symbols()} if isinstance(size, Dim) else set()


def _wishes(leaves: Leaves, dynamic: Any) -> Iterator[tuple[Place, Any]]:
    if not dynamic:
        return
    if dynamic is True:
        yield from (((i, 0), "batch") for i, (_, x) in enumerate(leaves) if isinstance(x, torch.Tensor) and x.ndim)
        return
    found: dict[Place, Any] = {}
    for name, wish in _by_name(dynamic, ""):
        under = [i for i, (n, _) in enumerate(leaves) if n == name or n.startswith(f"{name}.")]
        if not under:
            raise UnsupportedError(f"there is no argument '{name}' to have free dims", who="torch",
                                   advice="the tensors among the arguments are " + ", ".join(n for n, _ in leaves))
        for i in under:
            rank, exact = leaves[i][1].ndim, leaves[i][0] == name
            for axis, one in wish.items():
                if one is None:
                    if exact:
                        found.pop((i, axis % max(rank, 1)), None)
                    continue
                if not -rank <= axis < rank:
                    if exact:
                        raise UnsupportedError(f"'{name}' has {rank} dims, and no dim {axis} to be free", who="torch")
                    continue
                found[i, axis % rank] = one
    yield from sorted(found.items())


def _by_name(wish: Any, name: str) -> Iterator[tuple[str, dict[int, Any]]]:
    """Each part of `dynamic` that is about axes, with the name that it stands under; exact names come last."""
    if wish is None:
        return
    if isinstance(wish, Mapping):
        if wish and all(isinstance(k, int) for k in wish) and not any(isinstance(v, (Mapping, list, tuple))
                                                                     for v in wish.values()):
            yield name, dict(wish)
            return
        parts = [(str(k), v) for k, v in wish.items()]
    elif isinstance(wish, (list, tuple)):
        if not any(isinstance(v, (Mapping, list, tuple)) for v in wish):
            yield name, dict(enumerate(wish))
            return
        parts = [(str(i), v) for i, v in enumerate(wish)]
    else:
        raise UnsupportedError(f"the free dims of '{name}' are {wish!r}, which is no mapping of axes to names",
                               who="torch", advice='for example dynamic={"x": {0: "batch"}}')
    made = [p for k, v in parts for p in _by_name(v, f"{name}.{k}" if name else k)]
    yield from sorted(made, key=lambda p: p[0].count("."))


def _size(wish: Any, leaf: str, axis: int) -> tuple[Dim, tuple[int, int | None]]:
    """The dim that a wish means, and its range."""
    if isinstance(wish, str):
        size = parse(wish)
        return (size if isinstance(size, Dim) else sym(wish)), (1, None)
    name = getattr(wish, "__name__", None)
    if isinstance(name, str):    # a torch.export.Dim
        high = getattr(wish, "max", None)
        low = getattr(wish, "min", 1) or 1
        size = parse(name)
        limit = high if isinstance(high, int) and high < (1 << 31) - 1 else None
        return (size if isinstance(size, Dim) else sym(name)), (max(int(low), 1), limit)
    if type(wish).__name__ == "_DimHint":
        return sym(f"{leaf}_dim_{axis}"), (1, None)
    raise UnsupportedError(f"dim {axis} of '{leaf}' is asked to be {wish!r}, which is no name", who="torch")


def _solved(leaves: Leaves, sizes: Mapping[Place, Dim]) -> dict[str, int]:
    """The size of every symbol in the example."""
    known: dict[str, int] = {}

    def refuse(place: Place, size: Dim, why: str) -> UnsupportedError:
        name, x = leaves[place[0]]
        return UnsupportedError(f"dim {place[1]} of '{name}' is {x.shape[place[1]]} in the example, and was asked to "
                                f"be '{size}': {why}", who="torch",
                                advice="dims of one name have one size")

    waiting = sorted(sizes.items(), key=lambda item: not is_symbol(item[1]))
    for place, size in waiting:
        have = int(leaves[place[0]][1].shape[place[1]])
        unknown = sorted(symbols_of(size) - known.keys())
        if len(unknown) > 1:
            raise refuse(place, size, f"{' and '.join(unknown)} are the size of no dim")
        if unknown:
            fits = [n for n in range(have + 1) if _value(size, {**known, unknown[0]: n}) == have]
            if not fits:
                raise refuse(place, size, f"no size of {unknown[0]} makes it so")
            known[unknown[0]] = fits[-1]
        elif _value(size, known) != have:
            raise refuse(place, size, ", ".join(f"{n} is {known[n]}" for n in sorted(symbols_of(size))))
    return known


def _value(size: DimLike, known: Mapping[str, int]) -> int | None:
    try:
        return evaluate(size, known)
    except (RunError, ArithmeticError):
        return None


# Other sizes

def resized(leaves: Leaves, asked: Asked, sizes: Mapping[str, int]) -> list[Any]:
    """The example's tensors at other sizes, grown by shuffled pieces of themselves: values stay plausible."""
    made = [x for _, x in leaves]
    for (i, axis), size in asked.sizes.items():
        n = evaluate(size, sizes)
        if made[i].shape[axis] != n:
            made[i] = _stretched(made[i], axis, n)
    return made


def _stretched(x: Any, axis: int, size: int) -> Any:
    have = x.shape[axis]
    if not have:
        return x.new_zeros([size if i == axis else s for i, s in enumerate(x.shape)])
    # What is there stays in its place: ids that end a sentence, or ones that mark what counts, keep their meaning.
    g = torch.Generator().manual_seed(size)
    index = torch.cat([torch.arange(min(size, have)), torch.randint(0, have, (max(size - have, 0),), generator=g)])
    return x.detach().index_select(axis, index)


def seen_sizes(asked: Asked, distinct: bool = False) -> dict[str, int]:
    """The sizes to capture at: the example's, but never 0 or 1, which PyTorch takes for fixed.

    `distinct` ones are asked for where two dims that have the same size by chance were taken for one.
    """
    chosen: dict[str, int] = {}
    for name, n in asked.example.items():
        low, high = asked.ranges[name]
        want = n if n > 1 else max(low, 3)
        while distinct and want in chosen.values() and (high is None or 2 * want <= high):
            want *= 2
        chosen[name] = want if high is None else max(min(want, high), low)
    return chosen
