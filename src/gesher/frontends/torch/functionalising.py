"""A captured program made functional: without mutations, with big operators whole.

Most programs are nearly so when they come out of capturing: what they change is a value that nobody else sees, as
`relu_` changes what a convolution has just made. Then nothing needs to be traced a second time, which costs as much as
capturing: whoever walks the program reads the changed value where the old one stood (`mutated`). Where a change might
show elsewhere, through a view or in a buffer, or where operators must be taken apart, PyTorch does the whole.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from gesher.base.knobs import debug

from .decompositions import fallbacks
from .translation import name_of
from .translators import COMPLEX, TABLE, speaks_complex

# Composites that always give a new tensor. Of others PyTorch does not say whether they may give their argument back.
_FRESH = {"aten.linear", "aten.conv1d", "aten.conv2d", "aten.conv3d", "aten.conv_transpose1d", "aten.conv_transpose2d",
          "aten.conv_transpose3d", "aten.batch_norm", "aten.layer_norm", "aten.group_norm", "aten.instance_norm",
          "aten.matmul", "aten.einsum", "aten.scaled_dot_product_attention", "aten.softmax", "aten.log_softmax",
          "aten.max_pool1d", "aten.max_pool2d", "aten.max_pool3d", "aten.avg_pool1d", "aten.silu", "aten.outer",
          "aten.cross_entropy_loss", "aten.square", "aten.rms_norm", "aten.tensordot", "aten.embedding_bag",
          "aten.where", "aten.kron", "aten.concat", "aten.hstack", "aten.vstack", "aten.dstack", "aten.stack"}
# What states a fact, or stands in the program for the sake of gradients, and computes nothing.
_IDLE = {"aten._assert_tensor_metadata.default", "aten._assert_scalar.default", "aten._assert_async.msg",
         "aten._assert_async.default", "aten.sym_constrain_range_for_size.default",
         "aten.sym_constrain_range.default", "_assert"}

_TRACED = "_gesher_traced"


def functional(program: Any) -> Any:
    """The program, to be walked as if it had no mutations (see `mutated`)."""
    why = _needs_tracing(program)
    if not why:
        return program
    debug(2, f"traced again to be functional: {why}")
    return traced_again(program)


def traced_again(program: Any) -> Any:
    """The program as PyTorch makes it functional, what has no translator taken apart; itself where that was done."""
    if getattr(program, _TRACED, False):
        return program
    made = _traced(program)
    setattr(made, _TRACED, True)
    return made


def _traced(program: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return program.run_decompositions(fallbacks())
        except Exception:
            # Some of PyTorch's decompositions do not survive functionalising. Whole, operators are refused by name.
            return program.run_decompositions({})


def mutated(node: Any) -> tuple[str, Any] | None:
    """For a node that changes its first argument: the operator that gives the changed value anew, and the argument."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable or not node.args or not isinstance(node.args[0], torch.fx.Node):
        return None
    changed = [a for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    namespace, _, op = schema.name.partition("::")
    if len(changed) != 1 or changed[0] is not schema.arguments[0] or not op.endswith("_") or op.endswith("__") \
            or len(schema.returns) != 1:
        return None
    return f"{namespace}.{op[:-1]}.{node.target._overloadname or 'default'}", node.args[0]


def _needs_tracing(program: Any) -> str:
    """Why a program must be made functional by PyTorch; "" where it need not."""
    for spec in program.graph_signature.output_specs:
        if spec.kind.name != "USER_OUTPUT":
            return f"an output is a {spec.kind.name}"
    apart: set[str] = {name_of(op) for op in fallbacks()}
    # A value and its views share a family. A change is private where nobody outside it reads an older member later.
    families: dict[Any, list[Any]] = {}
    place = {node: i for i, node in enumerate(program.graph.nodes)}
    for node in program.graph.nodes:
        if node.op in ("placeholder", "get_attr"):
            families[node] = [node]
        if node.op == "get_attr" and not isinstance(_attribute(program.graph_module, node.target), torch.Tensor):
            return f"it holds a graph, {node.target}"
        if node.op != "call_function":
            continue
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            return f"it has {name_of(node.target)}"
        if node.target is operator.getitem:
            families[node] = families.get(node.args[0], [])
            families[node].append(node)
        name = name_of(node.target)
        if not isinstance(node.target, torch._ops.OpOverload) or name in _IDLE or _is_size(node.meta.get("val")):
            continue
        if node.target._schema.is_mutable:
            why = _shown(node, families, place)
            if why:
                return f"{name} {why}"
            families[node] = families[node.args[0]]
            families[node].append(node)
            continue
        if name in apart or name not in (COMPLEX if speaks_complex(node) else TABLE):
            return f"{name} is taken apart"
        family = _shared_with(node, families)
        family.append(node)
        families[node] = family
    return ""


def _shown(node: Any, families: dict[Any, list[Any]], place: dict[Any, int]) -> str:
    """Where the change that a node makes might be seen by others than those who read the changed value itself."""
    found = mutated(node)
    if found is None or found[0] not in (COMPLEX if speaks_complex(node) else TABLE):
        return "changes values in a way of its own"
    target = found[1]
    family = families.get(target)
    if family is None or any(member.op != "call_function" for member in family):
        return "changes an input or a weight"
    was, now = target.meta.get("val"), node.meta.get("val")
    if not isinstance(was, torch.Tensor) or was.dtype != now.dtype:
        return "changes the type"
    same = {node, *changed_with(node)}
    for member in family:
        if member not in same and any(place[user] > place[node] for user in member.users):
            return f"changes {member}, which is read later"
    return ""


def changed_with(node: Any) -> Iterator[Any]:
    """The nodes that stand for the very tensor that `node` changes: its argument, and what that one has changed."""
    found = mutated(node)
    while found is not None:
        yield found[1]
        found = mutated(found[1])


def _is_size(told: Any) -> bool:
    return isinstance(told, (torch.SymInt, torch.SymBool, torch.SymFloat, int, float, bool))


def _shared_with(node: Any, families: dict[Any, list[Any]]) -> list[Any]:
    """The family that the result of a node belongs to: a new one where it surely is a new tensor."""
    schema = node.target._schema
    views = any(r.alias_info is not None for r in schema.returns)
    base = "{}.{}".format(*schema.name.split("::"))
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(node.target.name(), "CompositeImplicitAutograd")
    if not views and (base in _FRESH or not composite):
        return []
    # It may be a view of any tensor that it takes: all of them become one family.
    merged: list[Any] = []
    for source in node.all_input_nodes:
        family = families.get(source)
        if family is not None and family is not merged:
            if not merged:
                merged = family
            else:
                merged.extend(m for m in family if m not in merged)
                for member in family:
                    families[member] = merged
    return merged


def _attribute(module: Any, target: str) -> Any:
    for part in target.split("."):
        module = getattr(module, part)
    return module
