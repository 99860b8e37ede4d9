"""ONNX Runtime behind the protocol (its CPU provider)."""

from __future__ import annotations

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

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        import onnxruntime as ort

        if self._session is None:
            raise RunError("this session is closed")
        fed = {name: self._to_ort(name, value) for name, value in self.fed(feeds).items()}
        try:
            if any(isinstance(v, ort.OrtValue) for v in fed.values()):
                fed = {n: v if isinstance(v, ort.OrtValue) else ort.OrtValue.ortvalue_from_numpy(v)
                       for n, v in fed.items()}
                values = self._session.run_with_ort_values(self._names, fed)
                results = [v.numpy() if v.is_tensor() else v for v in values]
            else:
                results = self._session.run(self._names, fed)
        except Exception as e:
            raise RunError(f"ONNX Runtime failed: {_first_line(e)}") from e
        return {name: self._from_ort(name, value) for name, value in zip(self._names, results)}

    def _to_ort(self, name: str, value: Any) -> Any:
        import onnxruntime as ort

        dtype = self._types.get(name)
        if dtype is None or not isinstance(value, np.ndarray) or value.dtype.kind != "V":
            return value
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
            np.ascontiguousarray(value).view(np.uint16 if dtype.bits == 16 else np.uint8), dtype.code)

    def _from_ort(self, name: str, value: Any) -> Any:
        dtype = self._types.get(name)
        if dtype is None or dtype in (dtypes.STRING, dtypes.UNDEFINED) or not isinstance(value, np.ndarray):
            return value
        if value.dtype != dtype.numpy and value.dtype.itemsize == dtype.numpy.itemsize and dtype.numpy.kind == "V":
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
