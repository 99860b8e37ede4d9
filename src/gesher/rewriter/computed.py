"""Constants that are made from other constants by a node, when someone first wants their numbers.

Folding a batch normalization into 100 MB of weights costs nothing while a model is rewritten; the numbers are made
once, and never for a weight that a later rewrite takes away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from gesher.base.dtypes import DType
from gesher.base.errors import ModelError
from gesher.base.knobs import BUDGET_MB
from gesher.ir import Graph, Node, Storage, Tensor
from gesher.ops import Run, run_node
from gesher.ops.schema import Operator, Schema


class Computed(Storage):
    """What output `index` of a node is on constant inputs, by its reference rule.

    Attributes:
        node, operator, schema: what is applied.
        sources: the inputs; let go of once the numbers are made.
    """

    __slots__ = ("_made", "index", "node", "operator", "schema", "sources")

    def __init__(self, node: Node, operator: Operator, schema: Schema, sources: Sequence[Tensor | None], index: int):
        self.node, self.operator, self.schema, self.index = node, operator, schema, index
        self.sources: tuple[Tensor | None, ...] = tuple(sources)
        self._made: NDArray[Any] | None = None

    def array(self, dtype: DType, shape: tuple[int, ...]) -> NDArray[Any]:
        if self._made is None:
            arrays = [None if t is None else t.numpy() for t in self.sources]
            run = Run(self.node, self.schema, run_graph=_no_graphs, random=np.random.default_rng(0),
                      budget=BUDGET_MB.number << 20, opsets={})
            with np.errstate(all="ignore"):
                made = np.asarray(run_node(self.node, self.operator, self.schema, arrays, run)[self.index])
            if made.shape != shape or made.dtype != dtype.numpy:
                raise ModelError(f"{self.node.op_type} of constants gives {made.dtype}{list(made.shape)}, inference "
                                 f"says {dtype.name}{list(shape)}", advice="this is a fault in gesher")
            self._made, self.sources = np.ascontiguousarray(made).reshape(shape), ()
        return self._made


def _no_graphs(graph: Graph, inputs: Sequence[Any]) -> NoReturn:
    raise AssertionError("a node with subgraphs is not folded")
