"""Packed sequences: rows of a batch that end at different times, without what stands behind their ends.

PyTorch lays them out by time: of each step the rows that are still going, as many as `batch_sizes` says. How many that
makes hangs on the lengths, which torch.export has no shapes for, so packing, unpacking and the recurrent layers between
go to operators of our own while a module is captured. In ONNX the layers take padded sequences and lengths; what was
packed is remembered as it was, so that nothing is unpacked that was just packed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gesher.base import dtypes
from gesher.ir import Value

from .recurrent import LAYERS, recurrent, whole_operator
from .translation import TABLE, Translation, aten

# Captured

_SCHEMA = ("(Tensor data, Tensor sizes, {states} states, Tensor[] params, bool has_biases, int layers, float dropout, "
           "bool train, bool bidirectional) -> ({results})")


@torch.library.custom_op("gesher::pack", mutates_args=())
def _pack(x: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
    data, sizes = torch._pack_padded_sequence(x, lengths, batch_first)
    return data.clone(), sizes.clone()


@_pack.register_fake
def _(x: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
    context = torch.library.get_ctx()
    longest = x.shape[1 if batch_first else 0]
    steps = context.new_dynamic_size(min=1, max=longest if isinstance(longest, int) else None)
    return x.new_empty((context.new_dynamic_size(min=1), *x.shape[2:])), lengths.new_empty((steps,))


@torch.library.custom_op("gesher::unpack", mutates_args=())
def _unpack(data: Tensor, sizes: Tensor, batch_first: bool, padding: float, length: int, batch: int
            ) -> tuple[Tensor, Tensor]:
    x, lengths = torch._pad_packed_sequence(data, sizes, batch_first, padding, length)
    return x.clone(), lengths.clone()


@_unpack.register_fake
def _(data: Tensor, sizes: Tensor, batch_first: bool, padding: float, length: int, batch: int
      ) -> tuple[Tensor, Tensor]:
    lead = (batch, length) if batch_first else (length, batch)
    return data.new_empty((*lead, *data.shape[1:])), sizes.new_empty((batch,))


def _keep_whole(name: str) -> Any:
    """Make the operator `gesher::packed_NAME`: what `torch.NAME` computes of packed data, with its shapes stated."""
    layer = getattr(torch, name)
    several = name == "lstm"

    def run(data: Tensor, sizes: Tensor, states: Any, *rest: Any) -> tuple[Tensor, ...]:
        return tuple(x.clone() for x in layer(data, sizes, states, *rest))

    def shapes(data: Tensor, sizes: Tensor, states: Any, params: Any, has_biases: bool, layers: int, dropout: float,
               train: bool, bidirectional: bool) -> tuple[Tensor, ...]:
        ends = tuple(states) if several else (states,)
        y = data.new_empty((data.shape[0], (2 if bidirectional else 1) * ends[0].shape[2]))
        return (y, *map(torch.empty_like, ends))

    return whole_operator(f"packed_{name}", _SCHEMA, several, run, shapes)


_WHOLE = {getattr(torch, name): _keep_whole(name) for name in LAYERS}


class PackedWhole(TorchFunctionMode):
    """While this is entered, packed sequences go through our operators."""

    def __init__(self) -> None:
        super().__init__()
        # What each vector of sizes was made for: the count of rows of the batch. Kept, so that no other gets its id.
        self.batches: dict[int, tuple[Tensor, Any]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch._pack_padded_sequence and not kwargs:
            x, lengths, batch_first = args
            data, sizes = _pack(x, lengths, batch_first)
            self.batches[id(sizes)] = sizes, x.shape[0 if batch_first else 1]
            return data, sizes
        if func is torch._pad_packed_sequence and not kwargs and id(args[1]) in self.batches:
            data, sizes, batch_first, padding, length = args
            return _unpack(data, sizes, batch_first, float(padding), length, self.batches[id(sizes)][1])
        if func is torch.Tensor.__getitem__ and id(args[0]) in self.batches and args[1:] == (0,):
            return self.batches[id(args[0])][1]    # all rows are still going at first
        if func in _WHOLE and not kwargs and isinstance(args[1], Tensor) and id(args[1]) in self.batches:
            return _WHOLE[func](*args)
        return func(*args, **kwargs)


@contextmanager
def batches_free() -> Iterator[None]:
    """Recurrent layers ask for the first of the batch sizes as a number, which would fix it."""
    layer = torch.nn.RNNBase
    own = layer.get_expected_hidden_size

    def expected(self: Any, x: Tensor, batch_sizes: Tensor | None) -> tuple[int, int, int]:
        if batch_sizes is None:
            return own(self, x, batch_sizes)
        states = self.num_layers * (2 if self.bidirectional else 1)
        return states, batch_sizes[0], self.proj_size or self.hidden_size    # type: ignore[return-value]

    layer.get_expected_hidden_size = expected    # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        layer.get_expected_hidden_size = own    # type: ignore[method-assign]


# Translated

@dataclass(slots=True)
class Padded:
    """What packed data is, padded: x (time, batch, ...), lengths (batch,) int64, mask (time, batch) of what is."""

    x: Value
    lengths: Value
    mask: Value


def _flat(t: Translation, x: Value, behind: int) -> Value:
    """Time and batch as one axis, before the last `behind`."""
    lead = t.ints([-1])
    return t.b.Reshape(x, t.b.Concat(lead, t.b.Slice(t.b.Shape(x), t.ints([2]), t.ints([2 + behind])), axis=0)
                       if behind else lead)


def _packed(t: Translation, padded: Padded) -> Value:
    """The rows that are there, by time; remembered as they were."""
    behind = t.rank(padded.x) - 2
    data = t.b.Compress(_flat(t, padded.x, behind), _flat(t, padded.mask, 0), axis=0)
    t.padded[data] = padded
    return data


@aten("gesher::pack")
def _(t: Translation, x: Value, lengths: Value, batch_first: bool) -> tuple[Value, Value]:
    if batch_first:
        x = t.transpose(x, [1, 0, *range(2, t.rank(x))])
    lengths = t.cast(lengths, dtypes.INT64)
    longest = t.reduce("ReduceMax", lengths, [0], True)
    x = t.b.Slice(x, t.ints([0]), longest, t.ints([0]))
    times = t.b.Range(t.constant(0, dtypes.INT64), t.squeeze(longest, [0]), t.constant(1, dtypes.INT64))
    mask = t.b.Less(t.unsqueeze(times, [1]), t.unsqueeze(lengths, [0]))
    sizes = t.reduce("ReduceSum", t.cast(mask, dtypes.INT64), [1], False)
    return _packed(t, Padded(x, lengths, mask)), sizes


def _padded(t: Translation, data: Value, sizes: Value) -> Padded:
    """Packed data, padded with whatever: as it was before it was packed, where that is known."""
    known = t.padded.get(data)
    if known is not None:
        return known
    batch = t.b.Gather(sizes, t.constant(0, dtypes.INT64), axis=0)
    rows = t.b.Range(t.constant(0, dtypes.INT64), batch, t.constant(1, dtypes.INT64))
    mask = t.b.Greater(t.unsqueeze(sizes, [1]), t.unsqueeze(rows, [0]))
    whole = t.cast(mask, dtypes.INT64)
    lengths = t.reduce("ReduceSum", whole, [0], False)
    nth = t.b.CumSum(_flat(t, whole, 0), t.constant(0, dtypes.INT64))
    place = t.b.Reshape(t.b.Max(t.b.Sub(nth, t.ints([1])), t.ints([0])), t.b.Shape(mask))
    made = t.padded[data] = Padded(t.b.Gather(data, place, axis=0), lengths, mask)
    return made


@aten("gesher::unpack")
def _(t: Translation, data: Value, sizes: Value, batch_first: bool, padding: float, length: Any, batch: Any
      ) -> tuple[Value, Value]:
    padded = _padded(t, data, sizes)
    behind = t.rank(padded.x) - 2
    x = t.b.Where(t.unsqueeze(padded.mask, range(2, 2 + behind)), padded.x, t.scalar(padding, padded.x))
    # Up to the length that was asked for, where it is more than the longest has.
    wanted = t.b.Sub(t.sizes.value(length), t.b.Slice(t.b.Shape(x), t.ints([0]), t.ints([1])))
    lows, highs = t.ints([0] * t.rank(x)), t.b.Concat(wanted, t.ints([0] * (t.rank(x) - 1)), axis=0)
    x = t.b.Pad(x, t.b.Concat(lows, highs, axis=0), t.scalar(padding, x))
    return t.transpose(x, [1, 0, *range(2, t.rank(x))]) if batch_first else x, padded.lengths


@aten("gesher::packed_lstm")
def _(t: Translation, data: Value, sizes: Value, states: Sequence[Value], params: Sequence[Value], has_biases: bool,
      layers: int, dropout: float, train: bool, bidirectional: bool) -> tuple[Value, ...]:
    padded = _padded(t, data, sizes)
    y, *ends = recurrent(t, t.target.split(".")[1].removeprefix("packed_"), padded.x, states, params, has_biases,
                         layers, bidirectional, False, (t.cast(padded.lengths, dtypes.INT32), padded.mask))
    return (_packed(t, Padded(y, padded.lengths, padded.mask)), *ends)


@aten("gesher::packed_gru", "gesher::packed_rnn_tanh", "gesher::packed_rnn_relu")
def _(t: Translation, data: Value, sizes: Value, state: Value, *rest: Any) -> tuple[Value, ...]:
    made: tuple[Value, ...] = TABLE["gesher.packed_lstm.default"](t, data, sizes, [state], *rest)
    return made
