"""ONNX Runtime behind the protocol (its CPU provider)."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import RunError, UnsupportedError
from gesher.ir import Model, TensorType

from .protocol import Engine, Options, Session
from .serialized import as_file_or_bytes


def _first_line(error: BaseException) -> str:
    # Its messages carry source paths of the machine that it was built on.
    text = re.sub(r"/\S+?\.(?:cc|h):\d+\s*\S*\s*", "", str(error))
    return " ".join(text.split())[:400]


# Types of whole bytes that numpy itself lacks: ONNX Runtime gives them to nobody as arrays.
_UNKNOWN_TO_NUMPY = {d.code: d for d in dtypes.all_dtypes() if d.bits >= 8 and d.numpy.isbuiltin == 2}


def _array(value: Any) -> Any:
    """What a value holds; what numpy has no type for is read where it lies."""
    if not value.is_tensor():
        return value
    dtype = _UNKNOWN_TO_NUMPY.get(value.element_type())
    if dtype is None:
        return value.numpy()
    shape = tuple(value.shape())
    size = int(np.prod(shape, dtype=np.int64)) * dtype.numpy.itemsize
    if not size:
        return np.empty(shape, dtype.numpy)
    held = (ctypes.c_uint8 * size).from_address(value.data_ptr())
    return np.array(held, np.uint8).view(dtype.numpy).reshape(shape)


class OnnxRuntimeSession(Session):
    """One `InferenceSession`."""

    def __init__(self, model: Model, options: Options):
        import onnxruntime as ort

        super().__init__(model, options)
        settings = ort.SessionOptions()
        settings.log_severity_level = 4
        if options.threads:
            settings.intra_op_num_threads = options.threads
            settings.inter_op_num_threads = 1
        with as_file_or_bytes(model) as source:
            try:
                self._session: Any = ort.InferenceSession(source if isinstance(source, bytes) else str(source),
                                                          settings, providers=["CPUExecutionProvider"])
            except Exception as e:
                raise UnsupportedError(f"ONNX Runtime {ort.__version__} does not take the model: {_first_line(e)}",
                                       who="onnxruntime", others=("compiled", "reference"),
                                       place=(model.place,)) from e
        self._names = [p.name for p in self.outputs]
        # It has no numpy types for these; they cross as their bits.
        self._types = {p.name: p.type.dtype for p in (*self.inputs, *self.outputs) if isinstance(p.type, TensorType)}
        self._as_values = any(p.type.dtype.code in _UNKNOWN_TO_NUMPY for p in self.outputs
                              if isinstance(p.type, TensorType)) and \
            all(isinstance(p.type, TensorType) for p in (*self.inputs, *self.outputs))

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        import onnxruntime as ort

        if self._session is None:
            raise RunError("this session is closed")
        fed = {name: self._to_ort(name, value) for name, value in self.fed(feeds).items()}
        try:
            if self._as_values or any(isinstance(v, ort.OrtValue) for v in fed.values()):
                fed = {n: v if isinstance(v, ort.OrtValue) else ort.OrtValue.ortvalue_from_numpy(v)
                       for n, v in fed.items()}
                values = self._session.run_with_ort_values(self._names, fed)
                results = [_array(v) for v in values]
            else:
                results = self._session.run(self._names, fed)
        except Exception as e:
            raise RunError(f"ONNX Runtime failed: {_first_line(e)}") from e
        return {name: self._from_ort(name, value) for name, value in zip(self._names, results)}

    def _to_ort(self, name: str, value: Any) -> Any:
        import onnxruntime as ort

        dtype = self._types.get(name)
        # Types that numpy itself lacks are registered with it by ml_dtypes.
        if dtype is None or not isinstance(value, np.ndarray) or value.dtype.isbuiltin != 2:
            return value
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
            np.ascontiguousarray(value).view(np.uint16 if dtype.bits == 16 else np.uint8), dtype.code)

    def _from_ort(self, name: str, value: Any) -> Any:
        dtype = self._types.get(name)
        if dtype is None or dtype in (dtypes.STRING, dtypes.UNDEFINED) or not isinstance(value, np.ndarray):
            return value
        if value.dtype != dtype.numpy and value.dtype.itemsize == dtype.numpy.itemsize \
                and dtype.numpy.isbuiltin == 2:
            return value.view(dtype.numpy)
        return value

    def close(self) -> None:
        self._session = None


class OnnxRuntimeEngine(Engine):
    """ONNX Runtime, where it is installed."""

    name = "onnxruntime"

    def missing(self) -> str | None:
        return None if find_spec("onnxruntime") else "the package onnxruntime is not installed; " \
                                                     "pip install 'gesher[onnxruntime]'"

    def version(self) -> str:
        import onnxruntime as ort

        return str(ort.__version__)

    def refuses(self, model: Model) -> list[str]:
        return []

    def prepare(self, model: Model, options: Options) -> Session:
        return OnnxRuntimeSession(model, options)
