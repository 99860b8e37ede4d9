"""Functions that look into their tensors before they compute: written anew, so that they can be captured.

PyTorch's own check that no variance is negative, that weights are whole, or take the lengths of rows as numbers of
Python's; a capture has no numbers. While a module is captured, calls of these functions go to what stands here: the
same computation without the check, or an operator of our own whose shapes are said (`gesher::ctc_loss`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode


class Unasking(TorchFunctionMode):
    """While this is entered, what would ask for numbers is computed without."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _INSTEAD.get(func, func)(*args, **(kwargs or {}))


# Statistics

def _cov(x: Tensor, *, correction: int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None) -> Tensor:
    """Variables in rows, observations in columns: (v, n) to (v, v)."""
    rows = x.reshape(1, -1) if x.ndim < 2 else x
    given = [w for w in (fweights, aweights) if w is not None]
    if not given:
        total: Any = rows.shape[1]
        factor: Any = max(total - correction, 0) if isinstance(total, int) else torch.sym_max(total - correction, 0)
        gaps = rows - (rows.sum(1) / total).unsqueeze(1)
        weighted = gaps
    else:
        w = given[0] if len(given) == 1 else given[0] * given[1]
        total = w.sum()
        less = correction if aweights is None or not correction else correction * (w * aweights).sum() / total
        factor = (total - less).clamp(min=0)
        gaps = rows - ((rows * w).sum(1) / total).unsqueeze(1)
        weighted = gaps * w
    made = gaps @ weighted.t().conj().to(gaps.dtype)
    return (made / factor).squeeze()


def _corrcoef(x: Tensor) -> Tensor:
    c = _cov(x)
    if c.ndim == 0:
        return c / c
    d = c.diagonal()
    deviations = torch.sqrt(d.real if d.is_complex() else d)
    c = c / deviations.reshape(-1, 1) / deviations.reshape(1, -1)
    if c.is_complex():
        return torch.complex(c.real.clip(-1, 1), c.imag.clip(-1, 1))
    return c.clip(-1, 1)


# Losses

def _reduced(loss: Tensor, reduction: str) -> Tensor:
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not valid")
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


def _gaussian_nll_loss(input: Tensor, target: Tensor, var: Any, full: bool = False, eps: float = 1e-6,
                       reduction: str = "mean") -> Tensor:
    if isinstance(var, (int, float)):
        if var < 0:
            raise ValueError("var has negative entry/entries")
        var = var * torch.ones_like(input)
    elif var.shape != input.shape and var.shape == input.shape[:-1]:
        var = var.unsqueeze(-1)
    var = var.clamp(min=eps)
    loss = 0.5 * (var.log() + (input - target) ** 2 / var)
    return _reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


@torch.library.custom_op("gesher::ctc_loss", mutates_args=())
def _ctc(log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int) -> Tensor:
    """(time, batch, classes) and (batch, longest), or all targets in one row, to (batch,)."""
    # Where lengths are lists PyTorch takes its plain way, whatever the types.
    return torch.ctc_loss(log_probs, targets, input_lengths.tolist(), target_lengths.tolist(), blank, 0, False)


@_ctc.register_fake
def _(log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int) -> Tensor:
    return log_probs.new_empty((log_probs.shape[1],))


def _ctc_loss(log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any, blank: int = 0,
              reduction: int | str = 1, zero_infinity: bool = False) -> Tensor:
    def lengths(x: Any) -> Tensor:
        return (x if isinstance(x, Tensor) else torch.tensor(list(x))).to(torch.int64).reshape(-1)

    single = log_probs.ndim == 2
    probs = log_probs.unsqueeze(1) if single else log_probs
    inputs, outputs = lengths(input_lengths), lengths(target_lengths)
    loss = _ctc(probs, targets, inputs, outputs, blank)
    if zero_infinity:
        loss = torch.where(loss.isinf(), torch.zeros_like(loss), loss)
    if reduction in (1, "mean"):
        return (loss / outputs.clamp(min=1).to(loss.dtype)).mean()
    return loss.sum() if reduction in (2, "sum") else loss.squeeze(0) if single else loss


def linear_cross_entropy(input: Tensor, linear_weight: Tensor, target: Tensor, linear_bias: Tensor | None,
                         weight: Tensor | None, reduction: str, ignore_index: int, label_smoothing: float,
                         acc_dtype: torch.dtype) -> Tensor:
    """What PyTorch computes in pieces of the batch, to save memory, as the two functions that it is made of."""
    scores = F.linear(input.to(acc_dtype), linear_weight.to(acc_dtype),
                      None if linear_bias is None else linear_bias.to(acc_dtype))
    loss = F.cross_entropy(scores, target if not target.is_floating_point() else target.to(acc_dtype),
                           None if weight is None else weight.to(acc_dtype), ignore_index=ignore_index,
                           reduction=reduction, label_smoothing=label_smoothing)
    return loss.to(input.dtype)


# Least squares

@torch.library.custom_op("gesher::lstsq", mutates_args=())
def _lstsq(a: Tensor, b: Tensor, rcond: float | None, driver: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return tuple(x.clone() for x in torch.linalg.lstsq(a, b, rcond=rcond, driver=driver))


@_lstsq.register_fake
def _(a: Tensor, b: Tensor, rcond: float | None, driver: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    vector = b.ndim == 1 or (a.ndim - 1 == b.ndim and b.shape == a.shape[:-1])
    right: Sequence[Any] = (*b.shape, 1) if vector else b.shape
    batch = torch.broadcast_shapes(a.shape[:-2], right[:-2])
    m, n = a.shape[-2:]
    solution = (*batch, n) if vector else (*batch, n, right[-1])
    # Of `gelsy` there are none; of the two by singular values only where all ranks are full, which the data tell.
    left = (*batch, right[-1]) if m > n and driver != "gelsy" else (0,)
    return (a.new_empty(solution), a.new_empty(left),
            a.new_empty((0,) if driver == "gels" else batch, dtype=torch.int64),
            a.new_empty((*batch, min(m, n)) if driver in ("gelss", "gelsd") else (0,)))


class _Found(tuple[Any, ...]):
    """The four results, by name too."""

    solution = property(lambda self: self[0])
    residuals = property(lambda self: self[1])
    rank = property(lambda self: self[2])
    singular_values = property(lambda self: self[3])


def _least_squares(input: Tensor, b: Tensor, rcond: float | None = None, *, driver: str | None = None) -> _Found:
    return _Found(_lstsq(input, b, rcond, driver or "gelsy"))


_INSTEAD: dict[Any, Callable[..., Any]] = {
    torch.cov: _cov, torch.corrcoef: _corrcoef, torch.Tensor.cov: _cov, torch.Tensor.corrcoef: _corrcoef,
    F.gaussian_nll_loss: _gaussian_nll_loss, torch.ctc_loss: _ctc_loss, F.ctc_loss: _ctc_loss,
    torch.linalg.lstsq: _least_squares}
