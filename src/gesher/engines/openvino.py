"""OpenVINO behind the protocol (its CPU device, at float32 precision unless told otherwise)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import RunError, UnsupportedError
from gesher.ir import Model, TensorType

from .protocol import Engine, Options, Session, only_tensors
from .serialized import as_file_or_bytes


def _first_lines(error: BaseException) -> str:
    # Its messages are a chain of "Exception from" with source paths; the last lines say what is wrong.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    unknown = [line.rpartition(":")[2].strip() for line in lines if "No conversion rule found" in line]
    if unknown:
        return f"it has no operator {unknown[0]}"
    told = [line for line in lines if not line.startswith(("Exception from", "Check "))]
    return " ".join(told or lines)[:400]


def _version(ov: Any) -> str:
    """The version alone, without build number and branch."""
    return str(ov.__version__).split("-")[0]


class OpenVinoSession(Session):
    """One compiled model and one infer request."""

    def __init__(self, model: Model, options: Options):
        import openvino as ov

        super().__init__(model, options)
        core = ov.Core()
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if options.precision == "f32":
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        if options.threads:
            settings["INFERENCE_NUM_THREADS"] = options.threads
        with as_file_or_bytes(model) as source:
            try:
                read = core.read_model(source if isinstance(source, bytes) else str(source))
                self._compiled: Any = core.compile_model(read, "CPU", settings)
            except Exception as e:
                raise UnsupportedError(f"OpenVINO {_version(ov)} does not take the model: {_first_lines(e)}",
                                       who="openvino", others=("compiled", "reference"),
                                       place=(model.place,)) from e
        self._request = self._compiled.create_infer_request()
        if len(self._compiled.outputs) != len(self.outputs):
            raise UnsupportedError(f"OpenVINO gives {len(self._compiled.outputs)} outputs, the model has "
                                   f"{len(self.outputs)}", who="openvino", place=(model.place,))
        # It may drop inputs that nothing reads.
        self._takes = {name for port in self._compiled.inputs for name in port.get_names()}

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        if self._compiled is None:
            raise RunError("this session is closed")
        fed = self.fed(feeds)
        try:
            self._request.infer({name: np.ascontiguousarray(v) for name, v in fed.items() if name in self._takes})
        except Exception as e:
            raise RunError(f"OpenVINO failed: {_first_lines(e)}") from e
        results: dict[str, Any] = {}
        for i, port in enumerate(self.outputs):
            tensor = self._request.get_output_tensor(i)
            if isinstance(port.type, TensorType) and port.type.dtype is dtypes.STRING:
                results[port.name] = np.asarray(tensor.str_data, object)
                continue
            data = np.array(tensor.data)
            # It computes some types in others (float64 in float32, int64 in int32) and may give those out.
            if isinstance(port.type, TensorType) and port.type.dtype is not dtypes.UNDEFINED \
                    and data.dtype != port.type.dtype.numpy:
                data = data.astype(port.type.dtype.numpy)
            results[port.name] = data
        return results

    def close(self) -> None:
        self._compiled = self._request = None


class OpenVinoEngine(Engine):
    """OpenVINO, where it is installed."""

    name = "openvino"

    def missing(self) -> str | None:
        return None if find_spec("openvino") else "the package openvino is not installed; " \
                                                  "pip install 'gesher[openvino]'"

    def version(self) -> str:
        import openvino as ov

        return _version(ov)

    def refuses(self, model: Model) -> list[str]:
        return only_tensors(model, "OpenVINO")

    def prepare(self, model: Model, options: Options) -> Session:
        return OpenVinoSession(model, options)
