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

# It hands these out under another type of the same width, since numpy alone has none; their bits are what crosses.
_AS_BITS = {dtypes.BFLOAT16: "bf16", dtypes.FLOAT8E4M3FN: "f8e4m3", dtypes.FLOAT8E5M2: "f8e5m2",
            dtypes.FLOAT8E8M0: "f8e8m0"}


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
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": options.precision}
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
        # It may drop inputs that nothing reads. An input that is given out as it is goes by the output's name there,
        # but its node keeps its own.
        names = {p.name for p in self.inputs}
        self._ports = {port.get_node().get_friendly_name(): port for port in self._compiled.inputs}
        if not self._ports.keys() <= names:
            raise UnsupportedError(f"OpenVINO asks for {', '.join(sorted(self._ports.keys() - names))}, which are no "
                                   "inputs of the model", who="openvino", place=(model.place,))
        self._types = {p.name: p.type.dtype for p in self.inputs if isinstance(p.type, TensorType)}

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        if self._compiled is None:
            raise RunError("this session is closed")
        fed = self.fed(feeds)
        left = [name for name in self._ports if name not in fed]
        if left:
            raise RunError(f"OpenVINO has no defaults for inputs: feed {', '.join(left)} too")
        try:
            self._request.infer({port: self._given(name, fed[name]) for name, port in self._ports.items()})
        except Exception as e:
            raise RunError(f"OpenVINO failed: {_first_lines(e)}") from e
        results: dict[str, Any] = {}
        for i, port in enumerate(self.outputs):
            tensor = self._request.get_output_tensor(i)
            dtype = port.type.dtype if isinstance(port.type, TensorType) else dtypes.UNDEFINED
            if dtype is dtypes.STRING:
                results[port.name] = np.asarray(tensor.str_data, object)
                continue
            data = np.array(tensor.data)
            if dtype in _AS_BITS and tensor.element_type.get_type_name() == _AS_BITS[dtype]:
                data = data.view(dtype.numpy)
            # It computes some types in others (float64 in float32, int64 in int32) and may give those out.
            elif dtype is not dtypes.UNDEFINED and data.dtype != dtype.numpy:
                data = data.astype(dtype.numpy)
            results[port.name] = data
        return results

    def _given(self, name: str, value: Any) -> Any:
        import openvino as ov

        array = np.ascontiguousarray(value).reshape(np.shape(value))
        if self._types.get(name) is dtypes.STRING:
            return array.astype(str)
        kind = _AS_BITS.get(self._types.get(name, dtypes.UNDEFINED))
        if kind is None:
            return array
        tensor = ov.Tensor(getattr(ov.Type, kind), ov.Shape(array.shape))
        tensor.data[...] = array.view(tensor.data.dtype)
        return tensor

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
        packed = [f"OpenVINO gives {v.type.dtype.name} out packed and computes it in ways of its own, '{v.name}' is one"
                  for v in (*model.graph.inputs, *model.graph.outputs)
                  if isinstance(v.type, TensorType) and 0 < v.type.dtype.bits < 8 and v.type.dtype is not dtypes.BOOL]
        texts = [[v.name for v in values if isinstance(v.type, TensorType) and v.type.dtype is dtypes.STRING]
                 for values in (model.graph.inputs, model.graph.outputs)]
        # A string input that is given out as it is it frees twice, and takes the process with it.
        texts_through = [f"OpenVINO cannot both take and give out strings, as in '{texts[0][0]}' and '{texts[1][0]}'"] \
            if all(texts) else []
        return [*only_tensors(model, "OpenVINO"), *packed, *texts_through]

    def prepare(self, model: Model, options: Options) -> Session:
        return OpenVinoSession(model, options)
