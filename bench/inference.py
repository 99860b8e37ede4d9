"""How much does shape inference know? Against onnx.shape_inference and ONNX Runtime's symbolic_shape_infer, in one run.

    ./dev bench inference

ONNX's node cases with the shapes of their outputs taken away, then exports of small BERT, GPT-2, ViT, ResNet, a pyramid
and the OCR models with free dims. There a value counts as known where its type is known, and every size is an integer
or an expression of the inputs' own symbols: names that a tool invents do not count, but for those of the outputs that
hang on the data.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx.shape_inference

sys.path.insert(0, str(Path(__file__).parents[1]))

from measuring import versions
from tests.real_models import model_files
from tests.suites.stripped import VERDICTS, node_cases, stripped, types_of, verdict
from tests.torch_models import EXPORTERS, NETWORKS, exported, without_types

import gesher
from gesher.inference import annotate
from gesher.ir.files import from_bytes, to_bytes

Tool = Callable[[onnx.ModelProto], onnx.ModelProto]


def ours(model: onnx.ModelProto) -> onnx.ModelProto:
    opened = from_bytes(model.SerializeToString())
    annotate(opened, gesher.infer(opened))
    return onnx.load_from_string(to_bytes(opened))


def of_onnx(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def of_onnxruntime(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    with contextlib.redirect_stdout(io.StringIO()):
        return SymbolicShapeInference.infer_shapes(model, auto_merge=True)


TOOLS: dict[str, Tool] = {"gesher": ours, "onnx": of_onnx, "onnxruntime": of_onnxruntime}


def on_node_cases() -> None:
    print(f"\n{'node cases':14}" + "".join(f"{v:>12}" for v in VERDICTS))
    for name, tool in TOOLS.items():
        counts: Counter[str] = Counter()
        wrong = []
        for case in node_cases():
            try:
                found = types_of(tool(stripped(case)))
            except Exception:
                found = {}  # a tool that gives up knows nothing
            counts[v := verdict(case, found)] += 1
            if v == "wrong":
                wrong.append(case.name)
        print(f"{name:14}" + "".join(f"{counts[v]:12}" for v in VERDICTS) + f"   {' '.join(wrong[:4])}", flush=True)


def known(model: onnx.ModelProto, tool: Tool) -> str:
    """The share of intermediate values that a tool knows, in a model without types but those of its inputs."""
    symbols = {d.dim_param for v in model.graph.input for d in v.type.tensor_type.shape.dim if d.dim_param}
    names = [o for n in model.graph.node for o in n.output if o]
    try:
        found = tool(model)
    except Exception as e:
        return f"fails: {type(e).__name__}"
    types = {v.name: v.type for v in (*found.graph.value_info, *found.graph.output)}
    count = sum(n in types and _is_known(types[n], symbols) for n in names)
    return f"{100 * count / len(names):.1f} %"


def _is_known(type: onnx.TypeProto, symbols: set[str]) -> bool:
    if not type.HasField("tensor_type"):
        return bool(type.WhichOneof("value"))
    if not type.tensor_type.elem_type or not type.tensor_type.HasField("shape"):
        return False
    return all(d.HasField("dim_value") or (d.dim_param and _symbols(d.dim_param) <= symbols)
               for d in type.tensor_type.shape.dim)


def _symbols(text: str) -> set[str]:
    # Names of inputs are taken as they stand: `?1` is one, and no expression.
    import re

    words = set(re.findall(r"[A-Za-z_?][\w.?]*", text))
    return words - {"floor", "ceiling", "ceil", "max", "min", "Max", "Min", "Mod", "mod", "bcast"}


def on_exports() -> None:
    print(f"\n{'exports, free dims':42} {'values':>7}" + "".join(f"{t:>14}" for t in TOOLS))
    for exporter in EXPORTERS:
        for name in NETWORKS:
            try:
                model = exported(name, exporter)
            except (ModuleNotFoundError, gesher.UnsupportedError) as e:
                print(f"{exporter + ': ' + name:42} {'-':>7}   {str(e).splitlines()[0][:70]}")
                continue
            _row(f"{exporter}: {name}", onnx.load_from_string(to_bytes(without_types(model))))
    for path in model_files("rapidocr_onnxruntime"):
        model = gesher.load(path)
        _row(path.stem, onnx.load_from_string(to_bytes(without_types(model))))


def _row(name: str, model: onnx.ModelProto) -> None:
    values = sum(1 for n in model.graph.node for o in n.output if o)
    print(f"{name:42} {values:7}" + "".join(f"{known(model, t):>14}" for t in TOOLS.values()), flush=True)


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    print(f"Python {sys.version.split()[0]}, " + versions("onnx", "onnxruntime", "torch"))
    on_node_cases()
    on_exports()


if __name__ == "__main__":
    main()
