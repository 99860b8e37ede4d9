"""Storages that know the file format: data in another file, and data that cannot be opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from gesher.base.dtypes import DType
from gesher.base.errors import ModelError
from gesher.codec.external import ExternalData
from gesher.codec.messages import TensorProto

from .tensor import LazyStorage, Storage

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ExternalStorage(LazyStorage):
    """A stretch of a data file beside the model; found, checked and mapped when first opened.

    Attributes:
        data: where it lies; `data.check()` tells whether it can be there without opening it.
    """

    __slots__ = ("data",)

    def __init__(self, data: ExternalData):
        super().__init__(data.view)
        self.data = data


class RefusedStorage(Storage):
    """Data that contradicts itself: the tensor is there, and opening it tells what is wrong.

    Attributes:
        why: what is wrong, as a sentence that goes on from "the tensor cannot be opened: ".
        message: the tensor as the file says it, which saving writes back.
    """

    __slots__ = ("message", "why")

    def __init__(self, why: str, message: TensorProto):
        self.why = why
        self.message = message

    def _refuse(self) -> NoReturn:
        raise ModelError(f"the tensor cannot be opened: {self.why}", rule="tensor-data")

    def array(self, dtype: DType, shape: tuple[int, ...]) -> NDArray[Any]:
        self._refuse()

    def raw(self, dtype: DType, shape: tuple[int, ...]) -> memoryview:
        self._refuse()
