"""Composites that PyTorch does at once. What has no row, or a form that its row does not take, runs as it means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812

from gesher.base import dtypes
from gesher.primitives import Expr

Tensor = torch.Tensor
# Takes the operands by place, None for those left out, and the composite's own parameters. Gives the results, those
# that are seldom asked for as functions that make them; None where it declines.
Whole = Callable[..., "tuple[Any, ...] | None"]


def _softmax(x: Tensor, *, axis: int) -> tuple[Any, ...] | None:
    return (torch.softmax(x, axis),)


def _log_softmax(x: Tensor, *, axis: int) -> tuple[Any, ...] | None:
    return (torch.log_softmax(x, axis),)


def _layer_norm(x: Tensor, scale: Tensor, b: Tensor | None, *, axis: int, epsilon: float, stash_type: int
                ) -> tuple[Any, ...] | None:
    shape = x.shape[axis:]
    if stash_type != dtypes.FLOAT.code or x.dtype is not torch.float32 or scale.shape != shape or \
            (b is not None and b.shape != shape) or not x.numel():
        return None
    axes = tuple(range(axis, x.ndim))

    def inverse() -> Tensor:
        return torch.rsqrt(x.var(axes, correction=0, keepdim=True) + epsilon)

    return F.layer_norm(x, shape, scale, b, epsilon), lambda: x.mean(axes, keepdim=True), inverse


def _group_norm(x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float, num_groups: int, stash_type: int,
                by_group: bool) -> tuple[Any, ...] | None:
    if by_group or not x.numel():
        return None
    return (F.group_norm(x, num_groups, scale, bias, epsilon),)


WHOLES: dict[str, Whole] = {"softmax": _softmax, "log_softmax": _log_softmax, "layer_norm": _layer_norm,
                            "group_norm": _group_norm}


def whole(bundle: Expr) -> Whole | None:
    """What does this composite at once: only for float32 and float64, whose rounding is the meaning's own."""
    found = WHOLES.get(bundle.params["name"])
    if found is None or any(a.dtype not in (dtypes.FLOAT, dtypes.DOUBLE) for a in bundle.args):
        return None
    return found


def operands(bundle: Expr, values: list[Any]) -> list[Any]:
    """The operands by place, None where one was left out."""
    given = bundle.params["given"]
    placed: list[Any] = [None] * (max(given, default=-1) + 1)
    for place, value in zip(given, values):
        placed[place] = value
    return placed
