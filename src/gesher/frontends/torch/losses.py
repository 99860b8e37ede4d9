"""Losses that are more than arithmetic: connectionist temporal classification."""

from __future__ import annotations

import math

from gesher.base import dtypes
from gesher.ir import Value
from gesher.ops.build import Builder

from .translation import Translation, aten


def _padded(t: Translation, targets: Value, lengths: Value) -> Value:
    """Targets in one row, one after another, as rows of their own: (total,) to (batch, total)."""
    zero, one = (t.constant(n, dtypes.INT64) for n in (0, 1))
    total = t.value(t.shape(targets)[0], dtypes.INT64)
    starts = t.b.CumSum(lengths, zero, exclusive=1)
    place = t.b.Add(t.unsqueeze(starts, [1]), t.unsqueeze(t.b.Range(zero, total, one), [0]))
    return t.b.Gather(targets, t.b.Min(place, t.b.Sub(total, one)), axis=0)


def _log_sum(b: Builder, *parts: Value) -> Value:
    """The logarithm of the sum of exponentials, where all may be minus infinity."""
    most = b.Max(*parts)
    most = b.Where(b.Equal(most, -math.inf), 0.0, most)
    total = b.Exp(b.Sub(parts[0], most))
    for p in parts[1:]:
        total = b.Add(total, b.Exp(b.Sub(p, most)))
    return b.Add(b.Log(total), most)


@aten("gesher::ctc_loss")
def _(t: Translation, log_probs: Value, targets: Value, input_lengths: Value, target_lengths: Value, blank: int
      ) -> Value:
    """Graves et al. 2006, equations 6 to 8, in logarithms: a Scan over time.

    (time, batch, classes), and targets (batch, longest) or (total,), to (batch,). Labels stand between blanks: place s
    of 2 * longest + 1 is a blank where s is even. A path comes to a place from itself, from the one before, and from
    two before where that is another label.
    """
    b, minus = t.b, t.scalar(-math.inf, log_probs)
    targets = t.cast(targets, dtypes.INT64)
    if t.rank(targets) == 1:
        targets = _padded(t, targets, target_lengths)
    time, batch = t.shape(log_probs)[:2]
    longest = t.shape(targets)[1]
    places = 2 * longest + 1
    none = t.expand(t.constant(blank, dtypes.INT64), [batch, longest])
    pairs = t.reshape(b.Concat(t.unsqueeze(none, [2]), t.unsqueeze(targets, [2]), axis=2), [batch, 2 * longest])
    labels = b.Concat(pairs, t.expand(t.constant(blank, dtypes.INT64), [batch, 1]), axis=1)
    # What stands behind a row's end may be anything, and counts for nothing; it must be a class all the same.
    classes = t.value(t.shape(log_probs)[2], dtypes.INT64)
    inside = b.And(b.GreaterOrEqual(labels, t.constant(0, dtypes.INT64)), b.Less(labels, classes))
    labels = b.Where(inside, labels, t.constant(blank, dtypes.INT64))
    seen = b.GatherElements(log_probs, t.expand(t.unsqueeze(labels, [0]), [time, batch, places]), axis=2)

    before = b.Concat(t.expand(t.constant(blank, dtypes.INT64), [batch, 2]), t.slice(labels, 1, 0, -2), axis=1)
    leaps = b.And(b.Not(b.Equal(labels, t.constant(blank, dtypes.INT64))), b.Not(b.Equal(labels, before)))
    # The first place of a row has nothing two before.
    index = b.Range(t.constant(0, dtypes.INT64), t.value(places, dtypes.INT64), t.constant(1, dtypes.INT64))
    leaps = b.And(leaps, b.Greater(index, t.constant(1, dtypes.INT64)))
    going = b.Less(t.unsqueeze(b.Range(t.constant(0, dtypes.INT64), t.value(time, dtypes.INT64),
                                       t.constant(1, dtypes.INT64)), [1]), t.unsqueeze(input_lengths, [0]))

    # Before the first step all paths are at the first place, from where they may go where they must begin.
    start = b.Where(b.Equal(index, t.constant(0, dtypes.INT64)), t.scalar(0, log_probs), minus)
    start = t.expand(start, [batch, places])
    body = b.subgraph("ctc", [("paths", t.dtype(log_probs), [batch, places]),
                              ("seen_now", t.dtype(log_probs), [batch, places]),
                              ("going_now", dtypes.BOOL, [batch, 1])])
    paths, now, there = body.graph.inputs
    inner = t.within(body)

    def shifted(by: int) -> Value:
        lead = inner.expand(minus, [batch, by])
        return body.Concat(lead, inner.slice(paths, 1, 0, -by), axis=1)

    # Row by row of one place there is nothing to shift: the blank alone.
    new = body.Add(_log_sum(body, paths, shifted(1), body.Where(leaps, shifted(2), minus)), now)
    body.output(body.Where(there, new, paths))
    last = b.op("Scan", start, seen, t.unsqueeze(going, [2]), body=body, num_scan_inputs=2)

    end = t.unsqueeze(b.Mul(target_lengths, t.constant(2, dtypes.INT64)), [1])
    whole = b.GatherElements(last, end, axis=1)
    short = b.GatherElements(last, b.Max(b.Sub(end, t.constant(1, dtypes.INT64)), t.constant(0, dtypes.INT64)), axis=1)
    short = b.Where(b.Greater(end, t.constant(0, dtypes.INT64)), short, minus)
    return b.Neg(t.squeeze(_log_sum(b, whole, short), [1]))
