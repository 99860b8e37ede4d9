"""An `ExportedProgram` (a `.pt2` archive) as it is: captured elsewhere, so its dims and names were settled there."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

from gesher.base.errors import UnsupportedError
from gesher.frontends.protocol import ExportOptions
from gesher.ir import DimLike
from gesher.symbolic import sym

from .arguments import result_names
from .capture import Captured, capturing, unique
from .dims import Asked, asked
from .functionalising import functional
from .preconditions import Precondition, precondition
from .sizes import said


def taken(program: Any, options: ExportOptions) -> Captured:
    """A program with names for its free dims: those that `dynamic` gives, or `input_dim_0`.

    Raises:
        UnsupportedError: a dim that was asked to be free is fixed in the program.
    """
    with capturing():
        made = functional(program)
    args, kwargs = program.example_inputs or ((), {})
    values = {n.name: n.meta.get("val") for n in made.graph.nodes if n.op == "placeholder"}
    inputs = [s.arg.name for s in made.graph_signature.input_specs
              if s.kind.name == "USER_INPUT" and isinstance(values.get(getattr(s.arg, "name", "")), torch.Tensor)]
    given = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    found = list(zip(inputs, given)) if len(given) == len(inputs) else [(n, values[n]) for n in inputs]
    wished = asked(found, options.dynamic)
    title = str(getattr(program.graph_module, "_get_name", lambda: "program")() or "program")
    captured = Captured(made, "program" if title == "GraphModule" else title, None, args, dict(kwargs), inputs, [],
                        asked=wished, by_pytree=True)
    _name_dims(captured, values, wished)
    captured.conditions = _ranges(captured)
    captured.results = _outputs(made)
    captured.outputs = unique(captured.results, set(inputs))
    return captured


def _name_dims(captured: Captured, values: dict[str, Any], wished: Asked) -> None:
    for i, name in enumerate(captured.inputs):
        for axis, size in enumerate(values[name].shape):
            wish = wished.sizes.get((i, axis))
            if isinstance(size, int):
                if wish is not None:
                    raise UnsupportedError(
                        f"dim {axis} of '{name}' is always {size} in this program", who="torch",
                        advice="give dynamic_shapes to torch.export.export, or export the module itself")
                continue
            e = size.node.expr
            if e.is_Symbol and str(e) not in captured.dims:
                own = wish if wish is not None else sym(f"{name}_dim_{axis}")
                captured.dims[str(e)] = own
                if wish is None:
                    wished.sizes[i, axis] = own
                    wished.ranges[own.name] = (1, None)
                    example = captured.leaves()
                    if example:
                        wished.example[own.name] = int(example[i][1].shape[axis])


def _ranges(captured: Captured) -> list[Precondition]:
    """The least and greatest sizes that the program itself states."""
    made: list[Precondition] = []
    for symbol, r in captured.program.range_constraints.items():
        size = captured.dims.get(str(symbol))
        if size is None or isinstance(size, int):
            continue
        for bound, relation in ((r.lower, symbol >= r.lower), (r.upper, symbol <= r.upper)):
            if getattr(bound, "is_Integer", False) and abs(int(bound)) < (1 << 31) and int(bound) > 1:
                kept = precondition(relation, lambda e: said(e, _symbol(captured)), "")
                if kept is not None:
                    made.append(kept)
    return made


def _symbol(captured: Captured) -> Any:
    def named(name: str) -> DimLike:
        return captured.dims[name]

    return named


def _outputs(program: Any) -> list[str]:
    """The fields that the program gives back, by their own names."""
    specs = [s for s in program.graph_signature.output_specs if s.kind.name == "USER_OUTPUT"]
    # Tensors of no elements stand for the results, so that the structure around them can be walked.
    marks = [torch.empty(0) for _ in specs]
    names: dict[int, str] = {}
    try:
        for name, leaf in result_names(pytree.tree_unflatten(marks, program.call_spec.out_spec)):
            names[id(leaf)] = name
    except Exception:    # a class that cannot be made of such tensors keeps numbers for names
        names = {}
    return [names.get(id(m), "output" if len(marks) == 1 else f"output_{i}") for i, m in enumerate(marks)]
