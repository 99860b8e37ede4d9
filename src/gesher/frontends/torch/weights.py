"""PyTorch's tensors as ours: weights without a copy, feeds and answers as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gesher.ir import Tensor

from .translation import dtype_of

_NUMPY_LACKS = (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz)


def as_tensor(tensor: Any) -> Tensor:
    """A weight without a copy, where numpy knows its type; complex numbers as pairs."""
    tensor = tensor.detach()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    tensor = tensor.resolve_neg()
    dtype = dtype_of(tensor.dtype)
    if tensor.dtype in _NUMPY_LACKS:
        bits = torch.int16 if tensor.dtype is torch.bfloat16 else torch.int8
        return Tensor.of(tensor.contiguous().view(bits).numpy().view(dtype.numpy))
    return Tensor.of(tensor.cpu().numpy())


def as_array(x: Any) -> np.ndarray[Any, Any]:
    """A tensor, or a number that PyTorch gives out as an int, as numpy has it."""
    if not isinstance(x, torch.Tensor):
        return np.asarray(x)
    return np.asarray(as_tensor(x).numpy())
