"""What the searches for text share: models that give scores of the next token, what is done to scores, and beams.

A search walks rows: one for each sample, or one for each beam of it, a sample's beams next to each other. A model is a
graph of the node, or two. It is asked for the scores of the next token once with all that is given, then with one more
token a turn; which row each row continues says what becomes of the cache.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from gesher.base.errors import ModelError, RunError, UnsupportedError
from gesher.ir import Graph, TensorType

RunGraph = Callable[[Graph, Sequence[Any]], list[Any]]

# What ONNX Runtime sets where a token may not come; no infinity, so that adding to it stays a number.
LOWEST = np.float32(np.finfo(np.float32).min)


# Models

class Model(Protocol):
    """A model that gives the scores of the next token, (rows, vocabulary), before any softmax."""

    def begin(self) -> tuple[Any, Any]:
        """What the sequences begin with, (rows, length) int32, and the first scores."""

    def go_on(self, sequences: Any, picked: Any) -> Any:
        """The scores behind longer sequences, row r of which continues the row `picked[r]` of those before."""


def _shape(graph: Graph, index: int, rank: int, what: str) -> tuple[Any, ...]:
    """The declared shape of a graph's input.

    Raises:
        ModelError: it is not declared, or of another rank.
    """
    type = graph.inputs[index].type
    if not isinstance(type, TensorType) or type.shape is None or len(type.shape) != rank:
        raise ModelError(f"the graph '{graph.name}' declares its input {index} as {type}, {what}",
                         rule="generation-graph")
    return type.shape


def check_names(graph: Graph, names: Sequence[str], of: str = "inputs") -> None:
    """Refuse a graph whose first inputs or outputs are not the ones that the search knows.

    Raises:
        ModelError: one has another name, or is missing.
    """
    have = [v.name for v in getattr(graph, of)]
    if have[:len(names)] != list(names):
        raise ModelError(f"the graph '{graph.name}' has the {of} {', '.join(have[:len(names)])}",
                         rule="generation-graph", advice=f"they begin with {', '.join(names)}")


class Decoder:
    """A decoder alone, like GPT-2: ids, positions, a mask and its caches in; scores and caches out.

    Caches are (2, rows, heads, length, size), keys and values. Positions count the tokens that are no padding, whatever
    a mask says.
    """

    def __init__(self, run: RunGraph, graph: Graph, first: Graph | None, ids: Any, mask: Any, beams: int, pad: int,
                 vocabulary: int):
        self.run, self.graph, self.first, self.vocabulary = run, graph, first or graph, vocabulary
        self.ids = np.repeat(ids, beams, 0)
        self.there = (self.ids != pad).astype(np.int32)
        self.mask = self.there if mask is None else np.repeat(mask, beams, 0)
        self.caches: list[Any] = []
        self.positions = np.zeros((len(self.ids), 1), np.int32)

    def begin(self) -> tuple[Any, Any]:
        check_decoder(self.graph)
        check_decoder(self.first)
        _, _, heads, _, size = _shape(self.first, 3, 5, "which is (2, rows, heads, length, size)")
        dtype = self.first.inputs[3].type.dtype.numpy  # type: ignore[union-attr]
        nothing = np.zeros((2, len(self.ids), heads, 0, size), dtype)
        seen = self.there.cumsum(1, dtype=np.int32)
        positions = np.where(self.there == 0, 0, seen - 1).astype(np.int32)
        self.positions = seen[:, -1:]
        return self.ids, self._ask(self.first, self.ids, positions, [nothing] * (len(self.first.inputs) - 3))

    def go_on(self, sequences: Any, picked: Any) -> Any:
        self.mask = np.concatenate([self.mask, np.ones((len(self.mask), 1), np.int32)], 1)
        positions = self.positions
        self.positions = positions + np.int32(1)
        return self._ask(self.graph, sequences[:, -1:], positions, [c[:, picked] for c in self.caches])

    def _ask(self, graph: Graph, ids: Any, positions: Any, caches: list[Any]) -> Any:
        scores, *self.caches = self.run(graph, [ids, positions, self.mask, *caches])
        return _last(scores, self.vocabulary)


def _last(scores: Any, vocabulary: int) -> Any:
    """The last token's scores, without what fills a vocabulary up where its size is written."""
    return (scores[:, -1, :vocabulary] if vocabulary > 0 else scores[:, -1]).astype(np.float32)


def check_decoder(graph: Graph) -> None:
    """Refuse what is no decoder of the kind of GPT-2.

    Raises:
        ModelError: its inputs or outputs are others. UnsupportedError: it keeps its caches in place.
    """
    check_names(graph, ("input_ids", "position_ids", "attention_mask", "past_0"))
    check_names(graph, ("logits", "present_0"), "outputs")
    if len(graph.inputs) > len(graph.outputs) + 2:
        raise UnsupportedError(f"the decoder '{graph.name}' keeps its caches in place", who="reference",
                               advice="ONNX Runtime has that for GPUs only")
    if len(graph.inputs) != len(graph.outputs) + 2:
        raise ModelError(f"the decoder '{graph.name}' has {len(graph.inputs) - 3} caches going in and "
                         f"{len(graph.outputs) - 1} coming out", rule="generation-graph")


class EncoderDecoder:
    """An encoder whose output a decoder attends to, like T5 and Whisper.

    The encoder may take the decoder's first token, and give its first scores and all caches; or give what the decoder
    attends to only, and then the decoder makes the first scores too. Caches are (rows, heads, length, size): keys and
    values of each layer for the tokens, then those for the encoder's output, which never change.
    """

    def __init__(self, run: RunGraph, encoder: Graph, decoder: Graph, encoder_inputs: Sequence[Any], mask: Any,
                 starts: Any, beams: int, vocabulary: int):
        self.run, self.encoder, self.decoder, self.beams, self.vocabulary = run, encoder, decoder, beams, vocabulary
        self.encoder_inputs, self.starts = list(encoder_inputs), starts
        self.mask = None if mask is None else np.repeat(mask, beams, 0)
        names = [v.name for v in decoder.inputs]
        self.sees_hidden = "encoder_hidden_states" in names
        # Before the caches: the ids, the mask where there is one, and the hidden states where they are asked for.
        self.lead = 1 + (mask is not None) + self.sees_hidden
        check_names(decoder, ["input_ids", *["encoder_attention_mask"] * (mask is not None),
                              *["encoder_hidden_states"] * self.sees_hidden])
        check_names(decoder, ("logits",), "outputs")
        self.count = len(decoder.outputs) - 1
        if len(decoder.inputs) != self.lead + 2 * self.count or self.count < 1:
            raise UnsupportedError(f"the decoder '{decoder.name}' has {len(decoder.inputs)} inputs for {self.count} "
                                   "caches coming out", who="reference",
                                   advice="caches kept in place, and attention shown, are for GPUs only")
        shape = _shape(decoder, 0, 2, "which is (rows, tokens)")
        self.whole = shape[1] != 1
        self.hidden: Any = None
        self.caches: list[Any] = []
        self.fixed: list[Any] = []

    def begin(self) -> tuple[Any, Any]:
        sequences = np.repeat(self.starts, self.beams, 0)
        found = self.run(self.encoder, [*self.encoder_inputs, self.starts][:len(self.encoder.inputs)])
        if self.encoder.outputs[0].name == "logits":
            check_names(self.encoder, ("logits", "encoder_hidden_states"), "outputs")
            scores, self.hidden, *caches = (np.repeat(x, self.beams, 0) for x in found)
            self.caches, self.fixed = caches[:self.count], caches[self.count:]
            return sequences, _last(scores, self.vocabulary)
        if self.sees_hidden:
            raise ModelError(f"the decoder '{self.decoder.name}' asks for encoder_hidden_states, and the encoder does "
                             "not give them", rule="generation-graph")
        self.fixed = [np.repeat(x, self.beams, 0) for x in found]
        heads, _, size = self.fixed[0].shape[1:]
        self.caches = [np.zeros((len(sequences), heads, 0, size), self.fixed[0].dtype)] * self.count
        return sequences, self._ask(sequences)

    def go_on(self, sequences: Any, picked: Any) -> Any:
        self.caches = [c[picked] for c in self.caches]
        return self._ask(sequences)

    def _ask(self, sequences: Any) -> Any:
        ids = sequences if self.whole else sequences[:, -1:]
        seen = [x for x in (self.mask, self.hidden if self.sees_hidden else None) if x is not None]
        scores, *self.caches = self.run(self.decoder, [ids, *seen, *self.caches, *self.fixed])
        return _last(scores, self.vocabulary)


# What is done to scores

@dataclass(slots=True)
class Limits:
    """What a search asks of tokens beside the model; each is off by default.

    Attributes:
        end: the token that ends a sequence.
        repetition: what the scores of tokens that were there are divided by, or multiplied where they are negative.
        ngram: tokens that would repeat an n-gram of this size are out.
        mask: 1 for tokens that may come, (vocabulary).
        prefix: the same for the first token, (batch, vocabulary).
        least: sequences shorter than this do not end.
        temperature: what all scores are divided by.
        presence, penalty: a mask of tokens, and what is taken off their scores.
        rules: more, on (rows of scores, sequences).
    """

    end: int
    repetition: float = 1.0
    ngram: int = 0
    mask: Any = None
    prefix: Any = None
    least: int = 0
    temperature: float = 1.0
    presence: Any = None
    penalty: float = 0.0
    rules: list[Callable[[Any, Any], None]] = field(default_factory=list)

    def apply(self, scores: Any, sequences: Any, first: bool) -> Any:
        """The scores (rows, vocabulary) of what may come next."""
        scores = scores.copy()
        if self.repetition != 1.0:
            factor = np.float32(self.repetition)
            for row, sequence in zip(scores, sequences):
                there = np.unique(sequence)
                row[there] = np.where(row[there] < 0, row[there] * factor, row[there] / factor)
        if 0 < self.ngram <= sequences.shape[1]:
            for row, sequence in zip(scores, sequences):
                row[_blocked(sequence.tolist(), self.ngram)] = LOWEST
        if self.mask is not None:
            scores[:, self.mask == 0] = LOWEST
        if self.prefix is not None and first:
            scores[np.repeat(self.prefix, len(scores) // len(self.prefix), 0) == 0] = LOWEST
        if sequences.shape[1] < self.least:
            scores[:, self.end] = LOWEST
        with np.errstate(over="ignore"):
            if self.temperature not in (0.0, 1.0):
                scores /= np.float32(self.temperature)
        if self.presence is not None and self.penalty:
            scores -= np.repeat(self.presence, len(scores) // len(self.presence), 0) * np.float32(self.penalty)
        for rule in self.rules:
            rule(scores, sequences)
        return scores


def _blocked(sequence: list[int], size: int) -> list[int]:
    """The tokens that would end an n-gram that is there already.

    >>> _blocked([1, 2, 3, 1, 2], 3)
    [3]
    """
    tail = sequence[len(sequence) - (size - 1):]
    return sorted({sequence[i + size - 1] for i in range(len(sequence) - size + 1)
                   if sequence[i:i + size - 1] == tail})


def log_softmax(x: Any) -> Any:
    moved = x - x.max(-1, keepdims=True)
    return moved - np.log(np.exp(moved).sum(-1, keepdims=True))


# Searches

Choose = Callable[[Any], Any]
"""Which token of each row comes, from scores (rows, vocabulary)."""


def one_by_one(model: Model, limits: Limits, longest: int, pad: int, choose: Choose) -> Any:
    """The sequences (batch, longest) int32 that grow by the token chosen in each turn; behind their end, padding."""
    sequences, scores = model.begin()
    if sequences.shape[1] >= longest:
        raise RunError(f"max_length {longest} leaves no room behind {sequences.shape[1]} tokens")
    rows = np.arange(len(sequences))
    ended = np.zeros(len(sequences), np.bool_)
    first = True
    while True:
        token = choose(limits.apply(scores, sequences, first)).astype(np.int32)
        first = False
        ended |= token == limits.end
        sequences = np.concatenate([sequences, np.where(ended, np.int32(pad), token)[:, None]], 1)
        if ended.all() or sequences.shape[1] == longest:
            break
        scores = model.go_on(sequences, rows)
    return np.pad(sequences, ((0, 0), (0, longest - sequences.shape[1])), constant_values=pad)


class _Finished:
    """The best sequences of a sample that ended; a heap with the worst in front."""

    def __init__(self, room: int, penalty: float):
        self.room, self.penalty = room, np.float32(penalty)
        self.heap: list[tuple[Any, int, Any]] = []

    def add(self, sequence: Any, total: Any) -> None:
        score = total / np.float32(len(sequence)) ** self.penalty
        if len(self.heap) < self.room or score > self.heap[0][0]:
            heapq.heappush(self.heap, (score, -len(self.heap), sequence))
            if len(self.heap) > self.room:
                heapq.heappop(self.heap)

    def settled(self, best: Any, length: int, early: bool) -> bool:
        """True where nothing that goes on can be better than the worst of these."""
        if len(self.heap) < self.room:
            return False
        return early or bool(self.heap[0][0] >= best / np.float32(length) ** self.penalty)


@dataclass(frozen=True, slots=True)
class Beams:
    """How a search with beams goes: how many, how many sequences of a sample come out, and when it ends."""

    count: int
    wanted: int
    length_penalty: float
    early: bool
    longest: int
    pad: int


def search(model: Model, limits: Limits, how: Beams, log: Callable[[Any], None] | None = None) -> tuple[Any, Any, Any]:
    """The best sequences (batch, wanted, longest), their scores, and those of all tokens in all turns, (turns, batch,
    beams, vocabulary): sums of logarithms, with what was before.

    In each turn, of a sample's beams and their tokens, twice as many as there are beams are looked at. Those that end
    the sequence, if they are among the better half, are set aside; of the others the best go on.
    """
    sequences, logits = model.begin()
    start, n = sequences.shape[1], how.count
    if start >= how.longest:
        raise RunError(f"max_length {how.longest} leaves no room behind {start} tokens")
    batch = len(sequences) // n
    if log is not None:
        log(logits)
    # At first all beams of a sample are the same, so that only the first counts.
    totals = np.tile(np.array([0.0, *[-1e9] * (n - 1)], np.float32), batch)
    finished = [_Finished(n, how.length_penalty) for _ in range(batch)]
    done = np.zeros(batch, np.bool_)
    vocabulary = logits.shape[1]
    shown = np.zeros((how.longest - start, batch, n, vocabulary), np.float32)
    for turn in range(how.longest - start):
        with np.errstate(over="ignore"):
            scores = limits.apply(log_softmax(logits), sequences, turn == 0) + totals[:, None]
        shown[turn] = scores.reshape(batch, n, vocabulary)
        picked, tokens = np.zeros(batch * n, np.int64), np.full(batch * n, how.pad, np.int32)
        totals = np.zeros(batch * n, np.float32)
        for b in np.nonzero(~done)[0].tolist():
            flat = scores[b * n:(b + 1) * n].reshape(-1)
            order = np.argsort(-flat, kind="stable")[:2 * n]
            kept = 0
            for rank, place in enumerate(order.tolist()):
                row, token = b * n + place // vocabulary, place % vocabulary
                if token == limits.end:
                    if rank < n:
                        finished[b].add(sequences[row], flat[place])
                    continue
                picked[b * n + kept], tokens[b * n + kept], totals[b * n + kept] = row, token, flat[place]
                kept += 1
                if kept == n:
                    break
            if kept < n:
                raise RunError(f"only {kept} of {n} beams can go on: the vocabulary of {vocabulary} is too small")
            done[b] = finished[b].settled(flat[order[0]], sequences.shape[1], how.early)
        sequences = np.concatenate([sequences[picked], tokens[:, None]], 1)
        if done.all() or sequences.shape[1] == how.longest:
            break
        logits = model.go_on(sequences, picked)
    for b in np.nonzero(~done)[0].tolist():
        for row in range(b * n, (b + 1) * n):
            finished[b].add(sequences[row], totals[row])
    best = np.full((batch, how.wanted, how.longest), how.pad, np.int32)
    worth = np.zeros((batch, how.wanted), np.float32)
    for b, found in enumerate(finished):
        for i, (score, _, sequence) in enumerate(sorted(found.heap, reverse=True)[:how.wanted]):
            best[b, i, :len(sequence)], worth[b, i] = sequence, score
    return best, worth, shown
