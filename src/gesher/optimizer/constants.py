"""What is the same in every run is computed ahead, within budgets.

Small values are those that inference knows already. Large ones are promised and made when first wanted (`Computed`).
What a reader would guess wrong: a node may give far more than it takes (a Tile, a ConstantOfShape); such are left to
the run, where they cost no memory until then.
"""

from __future__ import annotations

from math import prod
from typing import Any

from gesher.base import dtypes
from gesher.ir import Node, Tensor, TensorType, Value
from gesher.rewriter import Rewrite, Work, rule
from gesher.rewriter.computed import Computed

# Bytes that a folded constant may always have; above, it may not be larger than what it is made from by `_GROWTH`.
_FREE = 1 << 20
_GROWTH = 4
# Weights in integers are what integer kernels read: they stay what they are.
_KEPT = frozenset(("DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear", "MatMulNBits", "DequantizeBFP"))


@rule("fold_known", reach=1, current=False)
def _fold_known(work: Work, node: Node) -> Any:
    """Values that inference knows, whatever made them."""
    if node.op_type in _KEPT or not work.repeatable(node):
        return None
    pairs: dict[Value, Value] = {}
    for o in node.outputs:
        if o is None or not o.uses:
            continue
        fact = work.fact(o)
        if fact.constant is None and fact._value is None:
            return None
        known = fact.constant if fact.constant is not None else work.constant_of(o)
        if known is None:
            return None
        # A tensor that a node names is the file's own; its name is one node's business.
        pairs[o] = work.constant(known)
    return pairs or None


@rule("fold_large", reach=1, current=False)
def _fold_large(work: Work, node: Node) -> Any:
    """A node on constants alone, too large for inference to have looked at."""
    if not node.inputs or node.op_type in _KEPT or any(True for _ in node.subgraphs()):
        return None
    sources: list[Tensor | None] = []
    for v in node.inputs:
        if v is None:
            sources.append(None)
            continue
        fact = work.fact(v)
        if fact.constant is None and fact._value is None:
            return None
        tensor = work.constant_of(v)
        if tensor is None:
            return None
        sources.append(tensor)
    found = work.meaning(node)
    if found is None or found[0].rule("reference", found[1].version) is None or not work.repeatable(node):
        return None
    pairs: dict[Value, Value] = {}
    size = 0
    for i, o in enumerate(node.outputs):
        if o is None or not o.uses:
            continue
        t = work.fact(o).type
        if not isinstance(t, TensorType) or t.shape is None or not all(isinstance(d, int) for d in t.shape) \
                or t.dtype in (dtypes.UNDEFINED, dtypes.STRING):
            return "the size of what it gives is not known"
        shape = tuple(int(d) for d in t.shape)  # type: ignore[arg-type]
        size += prod(shape) * t.dtype.numpy.itemsize
        pairs[o] = work.constant(Tensor(t.dtype, shape, Computed(node, found[0], found[1], sources, i)))
    if size > _FREE and size > _GROWTH * sum(t.nbytes for t in sources if t is not None):
        return f"it would take {size:,} bytes"
    return pairs or None


RULES: tuple[Rewrite, ...] = (_fold_known, _fold_large)
