"""How numbers of ONNX's types are carried in PyTorch, and how they change type.

PyTorch computes with most of ONNX's types; those are carried as they are. Floats of 8 bits and fewer are carried as
float32 numbers that the narrow type can hold, so that gradients pass through them. The other integers that PyTorch
does not compute with (4 bits, unsigned of 16 and more) are numpy arrays: no gradient passes through those anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gesher.base import dtypes
from gesher.base.dtypes import DType
from gesher.primitives.interpret import convert

NATIVE: dict[DType, torch.dtype] = {
    dtypes.FLOAT: torch.float32, dtypes.DOUBLE: torch.float64, dtypes.FLOAT16: torch.float16,
    dtypes.BFLOAT16: torch.bfloat16, dtypes.INT8: torch.int8, dtypes.INT16: torch.int16, dtypes.INT32: torch.int32,
    dtypes.INT64: torch.int64, dtypes.UINT8: torch.uint8, dtypes.BOOL: torch.bool,
    dtypes.COMPLEX64: torch.complex64, dtypes.COMPLEX128: torch.complex128}

BACK: dict[torch.dtype, DType] = {t: d for d, t in NATIVE.items()}

# Types that PyTorch can only hold: what it feeds and is given.
_HELD: dict[torch.dtype, DType] = {
    torch.uint16: dtypes.UINT16, torch.uint32: dtypes.UINT32, torch.uint64: dtypes.UINT64,
    torch.float8_e4m3fn: dtypes.FLOAT8E4M3FN, torch.float8_e5m2: dtypes.FLOAT8E5M2,
    torch.float8_e4m3fnuz: dtypes.FLOAT8E4M3FNUZ, torch.float8_e5m2fnuz: dtypes.FLOAT8E5M2FNUZ}


def is_narrow(dtype: DType) -> bool:
    """Whether a type is a float that is carried in float32."""
    return dtype.is_float and dtype.bits < 16


@dataclass(frozen=True, slots=True)
class Narrow:
    """A tensor of a float type of 8 bits or fewer, carried as the float32 numbers that it holds."""

    tensor: torch.Tensor
    dtype: DType

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)


def dtype_of(value: Any) -> DType:
    """The type of a tensor, array or `Narrow`."""
    if isinstance(value, torch.Tensor):
        return BACK[value.dtype]
    return value.dtype if isinstance(value, Narrow) else dtypes.from_numpy(value.dtype)


def carried(value: Any, device: torch.device | None = None) -> Any:
    """A value as primitives compute with it: a tensor, or an array of a type that PyTorch has not."""
    if isinstance(value, Narrow):
        return value.tensor
    if isinstance(value, np.ndarray):
        return from_array(value, dtypes.from_numpy(value.dtype), device)
    return value


def from_array(array: Any, dtype: DType, device: torch.device | None = None) -> Any:
    """An array of `dtype` as it is carried. Never shares memory with what cannot be written to."""
    if dtype in NATIVE:
        shape = np.shape(array)
        array = np.ascontiguousarray(array)    # which gives a scalar an axis
        if dtype is dtypes.BFLOAT16:
            made = torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
        else:
            made = torch.from_numpy(array if array.flags.writeable else array.copy())
        made = made.reshape(shape)
        return made if device is None else made.to(device)
    if is_narrow(dtype):
        made = torch.from_numpy(np.asarray(array.astype(np.float32)))
        return made if device is None else made.to(device)
    return array


def to_array(value: Any, dtype: DType | None = None) -> Any:
    """What a carried or given out value is in numpy; `dtype` is needed for carried narrow floats."""
    if isinstance(value, Narrow):
        value, dtype = value.tensor, value.dtype
    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach().cpu()
    if dtype is not None and is_narrow(dtype):
        return value.numpy().astype(dtype.numpy)
    if value.dtype is torch.bfloat16:
        return value.contiguous().view(torch.int16).numpy().view(dtypes.BFLOAT16.numpy)
    return value.resolve_conj().resolve_neg().numpy()


def given_out(value: Any, dtype: DType) -> Any:
    """What primitives computed, as nodes pass it on: tensors, `Narrow` ones, arrays."""
    return Narrow(value, dtype) if is_narrow(dtype) else value


def fed(value: Any) -> Any:
    """What a caller gives, as nodes pass it on; tensors of types that PyTorch only holds become arrays."""
    if isinstance(value, torch.Tensor) and value.dtype in _HELD:
        dtype = _HELD[value.dtype]
        if is_narrow(dtype):
            return Narrow(value.float(), dtype)
        return value.cpu().numpy()
    if isinstance(value, (list, tuple)):
        return [fed(v) for v in value]
    return value


class _Rounded(torch.autograd.Function):
    """Numbers rounded to a narrow type, with the gradient of leaving them as they are."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, dtype: DType, saturate: bool) -> torch.Tensor:
        source = dtypes.DOUBLE if x.dtype is torch.float64 else dtypes.FLOAT
        narrow = convert(x.detach().cpu().numpy(), source, dtype, saturate)
        return torch.from_numpy(np.asarray(narrow.astype(np.float32))).to(x.device)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0], None, None


def cast(x: Any, source: DType, target: DType, saturate: bool = True) -> Any:
    """The primitive `cast` on carried values; see `primitives.interpret.convert` for what does not fit."""
    if source not in NATIVE and not is_narrow(source):
        return from_array(convert(x, source, target, saturate), target)
    if is_narrow(target):
        wide = x if x.dtype is torch.float64 else x.float()
        rounded: torch.Tensor = _Rounded.apply(wide, target, saturate)
        return rounded
    if target not in NATIVE:
        return convert(to_array(x, source), source, target, saturate)
    kind = NATIVE[target]
    if target is dtypes.BOOL:
        return x != 0
    if target.is_float:
        if target.bits == 16 and ((source.is_integer and source.bits > 16) or
                                  (target is dtypes.BFLOAT16 and source is dtypes.DOUBLE)):
            x = x.to(torch.float32)
        return x.to(kind)
    if source.is_float:
        return _whole(x, target)
    return x.to(kind)


def _whole(x: torch.Tensor, target: DType) -> torch.Tensor:
    """Floats cut to integers. What does not fit gives the lowest of 64 or 32 bits, or the low bits of that."""
    wide = x.detach().double().trunc()
    bits = 64 if target.bits == 64 else 32
    fits = (wide >= -(2.0**(bits - 1))) & (wide < 2.0**(bits - 1))
    lowest = torch.full((), -(1 << (bits - 1)), dtype=torch.int64, device=x.device)
    whole = torch.where(fits, torch.where(fits, wide, 0.0).to(torch.int64), lowest)
    return whole.to(NATIVE[target])
