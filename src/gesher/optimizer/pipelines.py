"""Which passes run in which order, for whom."""

from __future__ import annotations

from collections.abc import Collection

from gesher.base.knobs import debug
from gesher.ir import Model, Value
from gesher.ir.bridge import no_collection
from gesher.ops.fact import sayable
from gesher.ops.training.way import read_by_name
from gesher.rewriter import Pass, Pipeline, Sweep, Work
from gesher.rewriter.inline import Inlined, inlined

from . import (
    activations,
    affine,
    algebra,
    attention,
    constants,
    duplicates,
    flattening,
    identities,
    modern,
    moves,
    norms,
    quantized,
    rows,
    shapes,
)
from .weights import fold_weights

CLEAN = (
    Pass("modern", modern.RULES),
    # Before constants are folded: weights would be floats then.
    Pass("counts", quantized.RULES),
    Pass("clean", (*constants.RULES, *identities.RULES, *shapes.RULES, *moves.RULES, *algebra.RULES)),
    Sweep("duplicates", duplicates.merge_duplicates),
    Sweep("unread", duplicates.drop_unread_nodes),
)

# Wholes are recognised before arithmetic goes into weights, where no pattern would find it.
WHOLES = (
    Pass("wholes", (*norms.RULES, *activations.RULES, *attention.RULES)),
)

FOLD = (
    Pass("affine", (*affine.RULES, *algebra.LATE)),
)

FOR_EXPORT = Pipeline("for export", (
    Pass("clean", (*constants.RULES, *identities.RULES, *shapes.RULES, *moves.RULES, *algebra.RULES,
                   *flattening.RULES)),
    Sweep("duplicates", duplicates.merge_duplicates),
    Sweep("unread", duplicates.drop_unread_nodes),
    Pass("wholes", (*norms.RULES, *activations.COMMON, *affine.WINDOWS)),
    Sweep("rows", rows.keep_rows_flat),
    Sweep("unread rows", duplicates.drop_unread_nodes),
))
"""What is done to a model that a frontend has made: nothing that shows in its weights, names or opset."""

FOR_COMPILER = Pipeline("for the compiler", (*CLEAN, *WHOLES, *FOLD))
"""What the compiled engine does before it lowers a model."""


def for_export(model: Model, weights: Collection[Value] = (), fold: bool = False) -> None:
    """Run `FOR_EXPORT` on `model` itself: what rules make is of the model's own opset.

    Args:
        weights: initializers that stay as they are, by their own names: no rule looks at their numbers.
        fold: do arithmetic on weights first (`weights.fold_weights`).
    """
    if fold:
        weights = fold_weights(model, weights)
    before = {n for g in model.graphs() for n in g.nodes}
    with no_collection():
        work = Work(model, {}, weights, own=True)
        FOR_EXPORT.run(work)
    for node in (n for g in model.graphs() for n in g.nodes if n not in before):
        for v in node.outputs:
            if v is not None and v.type is None:
                v.type = sayable(work.fact(v).type)


def for_compiler(model: Model) -> Inlined:
    """A private copy of `model` with its functions put in place and `FOR_COMPILER` run on it.

    A model whose parts contradict each other is left as it is: what its values are is anybody's guess. So is one whose
    nodes read values by their names, as Gradient does: rules keep no names, and what lies between is differentiated.
    """
    with no_collection():
        return _optimised(model)


def _optimised(model: Model) -> Inlined:
    whole = inlined(model, private=True)
    if any(read_by_name(node) for graph in whole.model.graphs() for node in graph.nodes):
        debug(1, "not optimised, for a node reads values by their names")
        return inlined(model)
    work = Work(whole.model, whole.opsets)
    wrong = [f for f in work.facts.findings.errors if f.rule != "type-contradiction"]
    if wrong:
        debug(1, f"not optimised, for the model is not sound: {wrong[0].message}")
        return inlined(model)
    FOR_COMPILER.run(work)
    return whole
