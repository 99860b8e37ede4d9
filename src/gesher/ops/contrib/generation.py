"""GreedySearch, Sampling, BeamSearch and WhisperBeamSearch: text that a model within the node goes on with.

`model_type` says what the graphs are: 0 a decoder alone, 1 an encoder and a decoder, 2 Whisper's two. What a reader
would guess wrong:

- A sequence that ended goes on with padding, and its end stands as padding too.
- Penalties and masks of a greedy search are on plain scores, those of beams on their logarithms of the softmax.
- What divides the sum of logarithms of a beam is its length, with what it began with, to the power `length_penalty`.
- Of Sampling, `filtered_logits` are those of the first turn. `top_p` 0 leaves one token at most, and none where
  `min_tokens_to_keep` is 0: then all are equally likely.
- Caches kept in place, and Whisper's attention shown, are for GPUs only; they are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import ModelError, RunError, UnsupportedError
from gesher.ir import DimLike, Graph
from gesher.ir.types import print_shape
from gesher.ops.bodies import ask
from gesher.ops.fact import Fact
from gesher.ops.rules import InferNode, Run
from gesher.ops.schema import REQUIRED, Attr, Input, Operator, Output, op, tensors
from gesher.ops.sizes import scalar_of

from .generating import LOWEST, Beams, Choose, Decoder, EncoderDecoder, Limits, one_by_one, search
from .types import FLOAT, HALVES, INT32, MS

_GRAPHS = (Attr("decoder", "graph", REQUIRED), Attr("init_decoder", "graph"), Attr("encoder", "graph"))
_TOKENS = (Attr("eos_token_id", "int", REQUIRED), Attr("pad_token_id", "int", REQUIRED),
           Attr("decoder_start_token_id", "int", -1), Attr("no_repeat_ngram_size", "int", 0),
           Attr("vocab_size", "int", -1))
_LENGTHS = (Input("input_ids", "I"), Input("max_length", "I"), Input("min_length", "I", optional=True),
            Input("repetition_penalty", optional=True), Input("vocab_mask", "I", optional=True),
            Input("prefix_vocab_mask", "I", optional=True), Input("attention_mask", "I", optional=True))

GreedySearch = op("GreedySearch", *_LENGTHS, Output("sequences", "I"), *_GRAPHS, *_TOKENS, Attr("model_type", "int", 0),
                  domain=MS, T=FLOAT, I=INT32)

Sampling = op("Sampling", *_LENGTHS, Input("presence_mask", "I", optional=True), Input("seed", "I", optional=True),
              Output("sequences", "I"), Output("filtered_logits", optional=True), *_GRAPHS, *_TOKENS,
              Attr("model_type", "int", 0), Attr("temperature", "float", 1.0), Attr("top_p", "float", 0.0),
              Attr("filter_value", "float", float(np.float32(-1e20))), Attr("min_tokens_to_keep", "int", 0),
              Attr("presence_penalty", "float", 0.0), Attr("custom", "int", 0), domain=MS, T=FLOAT, I=INT32)

_BEAM_INPUTS = (Input("input_ids", "F"), Input("max_length", "I"), Input("min_length", "I", optional=True),
                Input("num_beams", "I"), Input("num_return_sequences", "I"), Input("length_penalty", optional=True),
                Input("repetition_penalty", optional=True), Input("vocab_mask", "M", optional=True),
                Input("prefix_vocab_mask", "M", optional=True), Input("attention_mask", "I", optional=True),
                Input("decoder_input_ids", "I", optional=True), Input("logits_processor", "I", optional=True))
_BEAM_OUTPUTS = (Output("sequences", "I"), Output("sequences_scores", optional=True), Output("scores", optional=True))
_ANY_INPUT = tensors("float int32 float16")

BeamSearch = op("BeamSearch", *_BEAM_INPUTS, *_BEAM_OUTPUTS, *_GRAPHS, *_TOKENS, Attr("early_stopping", "int", 0),
                Attr("model_type", "int", 0), domain=MS, T=HALVES, F=_ANY_INPUT, I=INT32, M=INT32)

WhisperBeamSearch = op("WhisperBeamSearch", *_BEAM_INPUTS, Input("cross_qk_layer_head", "I", optional=True),
                       Input("extra_decoding_ids", "I", optional=True), Input("temperature", optional=True),
                       *_BEAM_OUTPUTS, Output("cross_qk", "V", optional=True),
                       Output("non_speech_probs", optional=True), *_GRAPHS, *_TOKENS, Attr("early_stopping", "int", 0),
                       Attr("model_type", "int", 2), Attr("decoder_output_cross_qk", "int"),
                       *(Attr(f"{name}_token_id", "int") for name in (
                           "translate", "transcribe", "start_of_lm", "no_speech", "no_timestamps",
                           "beginning_timestamp")),
                       domain=MS, T=HALVES, F=_ANY_INPUT, I=INT32, M=INT32, V=FLOAT)


# Inference

def _decoder_scores(node: InferNode) -> Fact | None:
    """What the decoder gives first, its graph asked with the types that it declares."""
    graphs = [node[name] for name in ("decoder", "encoder", "init_decoder") if node[name] is not None]
    answers = [ask(node, g, [Fact(v.type) for v in g.inputs]) for g in graphs]
    return answers[0][0] if answers[0] else None


def _vocabulary(node: InferNode) -> DimLike | None:
    scores = _decoder_scores(node)
    if node["vocab_size"] > 0:
        return int(node["vocab_size"])
    shape = None if scores is None else scores.shape
    return shape[2] if shape is not None and len(shape) == 3 else None


def _common(node: InferNode, types: Sequence[int], ids_rank: int) -> tuple[DimLike | None, DimLike | None]:
    """The batch and the longest sequence; refuses what the text forbids."""
    if node["model_type"] not in types:
        node.fail(f"model_type is {node['model_type']}", "it is " + " or ".join(map(str, types)))
    if node["model_type"] and node["encoder"] is None:
        node.fail(f"model_type {node['model_type']} asks for a graph 'encoder'")
    ids = node.shape(0)
    if ids is not None and len(ids) != ids_rank:
        node.fail(f"input_ids has {ids_rank} axes, not {print_shape(ids)}")
    longest = scalar_of(node, 1)
    return None if ids is None else ids[0], longest


@GreedySearch.infer
@Sampling.infer
def _(node: InferNode) -> None:
    batch, longest = _common(node, (0,), 2)
    vocabulary = _vocabulary(node)
    node.set(0, dtypes.INT32, (batch, longest), why="max_length is not known")
    node.set(1, dtypes.FLOAT, (batch, vocabulary), why="the size of the vocabulary is not known")


@BeamSearch.infer
@WhisperBeamSearch.infer
def _(node: InferNode) -> None:
    whisper = node.operator is WhisperBeamSearch
    batch, longest = _common(node, (2,) if whisper else (0, 1), 3 if whisper else 2)
    beams, wanted, vocabulary = scalar_of(node, 3), scalar_of(node, 4), _vocabulary(node)
    if isinstance(beams, int) and isinstance(wanted, int) and not 1 <= wanted <= beams:
        node.fail(f"{wanted} sequences of {beams} beams cannot come out")
    start: DimLike | None = 1
    if whisper:
        given = node.shape(10) if node.has(10) else None
        start = given[1] if given is not None and len(given) == 2 else None if node.has(10) else 1
    elif not node["model_type"]:
        ids = node.shape(0)
        start = None if ids is None else ids[1]
    turns = None if longest is None or start is None else longest - start
    why = "max_length, num_beams or num_return_sequences is not known"
    scores = _score_type(node)
    node.set(0, dtypes.INT32, (batch, wanted, longest), why=why)
    node.set(1, scores, (batch, wanted), why=why)
    node.set(2, scores, (turns, batch, beams, vocabulary), why=why)
    if whisper:
        node.set(3, dtypes.FLOAT, (None,) * 5, why="attention is shown on GPUs only")
        node.set(4, scores, (batch,), why=why)


def _score_type(node: InferNode) -> Any:
    for i in (5, 6, 14):
        if node.has(i) and node.dtype(i) is not dtypes.UNDEFINED:
            return node.dtype(i)
    return dtypes.FLOAT


# Reference

def _number(x: Any, default: Any) -> Any:
    if x is None:
        return default
    if x.size != 1:
        raise RunError(f"a list of {x.size} where one number is asked for")
    return x.reshape(-1)[0].item()


def _check_lengths(limits: Limits, longest: int) -> None:
    if limits.least >= longest:
        raise RunError(f"min_length {limits.least} is not below max_length {longest}")
    if limits.repetition <= 0:
        raise RunError(f"a repetition_penalty of {limits.repetition} is not above 0")


def _decoder_alone(operator: Operator, model_type: int) -> None:
    if model_type:
        raise UnsupportedError(f"{operator.name} of model_type {model_type}", who="reference",
                               advice="ONNX Runtime's CPU build has it for decoders alone")


@GreedySearch.reference
def greedy_search(ids: Any, max_length: Any, min_length: Any = None, penalty: Any = None, mask: Any = None,
                  prefix: Any = None, attention: Any = None, *, decoder: Graph, init_decoder: Graph | None,
                  encoder: Graph | None, eos_token_id: int, pad_token_id: int, decoder_start_token_id: int,
                  no_repeat_ngram_size: int, vocab_size: int, model_type: int, run: Run) -> Any:
    _decoder_alone(GreedySearch, model_type)
    limits = Limits(eos_token_id, _number(penalty, 1.0), no_repeat_ngram_size, mask, prefix, _number(min_length, 0))
    longest = int(_number(max_length, 0))
    _check_lengths(limits, longest)
    model = Decoder(run.run_graph, decoder, init_decoder, ids, attention, 1, pad_token_id,
                    vocab_size)
    return one_by_one(model, limits, longest, pad_token_id, lambda scores: scores.argmax(1))


def _filtered(scores: Any, top_p: float, fill: float, least: int, custom: int) -> Any:
    """Scores of the most probable tokens that add up to `top_p`, and `fill` elsewhere."""
    kept = scores.copy()
    part = np.float32(top_p)
    for row, own in zip(kept, scores):
        order = np.argsort(-own if custom else own, kind="stable")
        e = np.exp(own[order] - own.max())
        total = np.cumsum(e / e.sum(dtype=np.float32), dtype=np.float32)
        if custom:
            out = np.concatenate([[False], total[:-1] > part])
        else:
            out = total <= np.float32(1) - part
            out[max(len(own) - least, 1):] = False
        row[order[out]] = np.float32(fill)
    return kept


@Sampling.reference
def sampling(ids: Any, max_length: Any, min_length: Any = None, penalty: Any = None, mask: Any = None,
             prefix: Any = None, attention: Any = None, presence: Any = None, seed: Any = None, *, decoder: Graph,
             init_decoder: Graph | None, encoder: Graph | None, eos_token_id: int, pad_token_id: int,
             decoder_start_token_id: int, no_repeat_ngram_size: int, vocab_size: int, model_type: int,
             temperature: float, top_p: float, filter_value: float, min_tokens_to_keep: int, presence_penalty: float,
             custom: int, run: Run) -> Any:
    _decoder_alone(Sampling, model_type)
    limits = Limits(eos_token_id, _number(penalty, 1.0), no_repeat_ngram_size, mask, prefix, _number(min_length, 0),
                    temperature, presence, presence_penalty)
    longest = int(_number(max_length, 0))
    _check_lengths(limits, longest)
    random = run.random if seed is None else np.random.default_rng(abs(int(_number(seed, 0))))
    seen: list[Any] = []

    def choose(scores: Any) -> Any:
        filtered = _filtered(scores, top_p, filter_value, min_tokens_to_keep, custom)
        seen.append(filtered)
        e = np.exp(filtered - filtered.max(1, keepdims=True)).astype(np.float64)
        edges = (e / e.sum(1, keepdims=True)).cumsum(1)
        return np.minimum((edges < random.random((len(edges), 1))).sum(1), edges.shape[1] - 1)

    model = Decoder(run.run_graph, decoder, init_decoder, ids, attention, 1, pad_token_id,
                    vocab_size)
    chosen: Choose = choose
    return one_by_one(model, limits, longest, pad_token_id, chosen), seen[0]


def _beams(max_length: Any, num_beams: Any, wanted: Any, length_penalty: Any, early: int, pad: int) -> Beams:
    how = Beams(int(_number(num_beams, 1)), int(_number(wanted, 1)), float(_number(length_penalty, 1.0)), early == 1,
                int(_number(max_length, 0)), pad)
    if not 1 <= how.wanted <= how.count:
        raise RunError(f"{how.wanted} sequences of {how.count} beams cannot come out")
    return how


def _typed(found: tuple[Any, Any, Any], *penalties: Any) -> tuple[Any, ...]:
    """Sequences, and scores in the type of the penalties that are given."""
    dtype = next((p.dtype for p in penalties if p is not None), np.dtype(np.float32))
    return (found[0], *(x.astype(dtype) for x in found[1:]))


def _start_tokens(batch: int, token: int) -> Any:
    if token < 0:
        raise ModelError("an encoder and a decoder ask for decoder_start_token_id", rule="generation-graph")
    return np.full((batch, 1), token, np.int32)


@BeamSearch.reference
def beam_search(ids: Any, max_length: Any, min_length: Any, num_beams: Any, wanted: Any, length_penalty: Any = None,
                penalty: Any = None, mask: Any = None, prefix: Any = None, attention: Any = None, starts: Any = None,
                processor: Any = None, *, decoder: Graph, init_decoder: Graph | None, encoder: Graph | None,
                eos_token_id: int, pad_token_id: int, decoder_start_token_id: int, no_repeat_ngram_size: int,
                vocab_size: int, early_stopping: int, model_type: int, run: Run) -> Any:
    limits = Limits(eos_token_id, _number(penalty, 1.0), no_repeat_ngram_size, mask, prefix, _number(min_length, 0))
    how = _beams(max_length, num_beams, wanted, length_penalty, early_stopping, pad_token_id)
    _check_lengths(limits, how.longest)
    if _number(processor, 0):
        raise UnsupportedError(f"BeamSearch with logits_processor {_number(processor, 0)}", who="reference")
    if model_type == 0:
        model: Any = Decoder(run.run_graph, decoder, init_decoder, ids, attention, how.count, pad_token_id,
                             vocab_size)
    elif model_type == 1 and encoder is not None:
        seen = attention
        if seen is None:
            # Padding in front only: a padding token behind may be the end of the text.
            seen = ((ids != pad_token_id).cumsum(1) > 0).astype(np.int32)
        model = EncoderDecoder(run.run_graph, encoder, decoder, [ids, seen], seen,
                               _start_tokens(len(ids), decoder_start_token_id), how.count, vocab_size)
    else:
        raise ModelError(f"BeamSearch of model_type {model_type} needs other graphs", rule="generation-graph",
                         advice="0 takes a decoder, 1 an encoder and a decoder; Whisper has an operator of its own")
    return _typed(search(model, limits, how), length_penalty, penalty)


# Whisper: times between words, which come in pairs and never go back

# Of the times, in steps of 20 ms, the first must be among the first of the file.
_FIRST_TIMES = 50


def _times(end: int, begins: int, never: Sequence[int], not_again: Sequence[int]) -> Any:
    """The rule of time tokens, those from `begins` on; `never` may not come, and `not_again` not behind the first."""
    def rule(scores: Any, sequences: Any) -> None:
        for row, sequence in zip(scores, sequences):
            times = np.nonzero(sequence >= begins)[0]
            first = int(times[0]) + 1 if len(times) else len(sequence)
            row[[t for t in never if 0 <= t < len(row)]] = LOWEST
            if len(sequence) > first:
                row[[t for t in not_again if 0 <= t < len(row)]] = LOWEST
            last = len(sequence) > 0 and sequence[-1] >= begins
            before = len(sequence) <= first or sequence[-2] >= begins
            if last:
                row[begins:] = LOWEST if before else row[begins:]
                row[:end] = row[:end] if before else LOWEST
            if len(times):
                least = int(sequence[times[-1]]) + (0 if last and not before else 1)
                row[begins:least] = LOWEST
            if len(sequence) == first:
                row[begins + _FIRST_TIMES + 1:] = LOWEST
            # Where some time is more likely than any one word, a time comes.
            words, most = row[:begins], row[begins:].max(initial=LOWEST)
            if most > LOWEST and most + np.log(np.exp(row[begins:] - most).sum()) > words.max(initial=LOWEST):
                words[:] = LOWEST

    return rule


@WhisperBeamSearch.reference
def whisper_beam_search(features: Any, max_length: Any, min_length: Any, num_beams: Any, wanted: Any,
                        length_penalty: Any = None, penalty: Any = None, mask: Any = None, prefix: Any = None,
                        attention: Any = None, starts: Any = None, processor: Any = None, layers: Any = None,
                        extra: Any = None, temperature: Any = None, *, decoder: Graph, init_decoder: Graph | None,
                        encoder: Graph | None, eos_token_id: int, pad_token_id: int, decoder_start_token_id: int,
                        no_repeat_ngram_size: int, vocab_size: int, early_stopping: int, model_type: int,
                        decoder_output_cross_qk: int | None, translate_token_id: int | None,
                        transcribe_token_id: int | None, start_of_lm_token_id: int | None,
                        no_speech_token_id: int | None, no_timestamps_token_id: int | None,
                        beginning_timestamp_token_id: int | None, run: Run) -> Any:
    if decoder_output_cross_qk or layers is not None or extra is not None or (len(run.wanted) > 3 and run.wanted[3]):
        raise UnsupportedError("WhisperBeamSearch that shows its attention", who="reference",
                               advice="ONNX Runtime has it for GPUs only")
    if encoder is None:
        raise ModelError("WhisperBeamSearch needs a graph 'encoder'", rule="generation-graph")
    limits = Limits(eos_token_id, _number(penalty, 1.0), no_repeat_ngram_size, mask, prefix, _number(min_length, 0),
                    _number(temperature, 1.0))
    how = _beams(max_length, num_beams, wanted, length_penalty, early_stopping, pad_token_id)
    _check_lengths(limits, how.longest)
    if _number(processor, 0) == 1:
        known = [beginning_timestamp_token_id, no_timestamps_token_id, start_of_lm_token_id]
        begins, no_times, lm = (eos_token_id + 107 - i if t is None else t for i, t in enumerate(known))
        again = [t for t in (decoder_start_token_id, translate_token_id, transcribe_token_id) if t is not None]
        limits.rules.append(_times(eos_token_id, begins, [no_times, lm], again))
    first = _start_tokens(len(features), decoder_start_token_id) if starts is None else starts
    model = EncoderDecoder(run.run_graph, encoder, decoder, [features], None, first, how.count, vocab_size)
    silence: list[Any] = []

    def listen(logits: Any) -> None:
        if no_speech_token_id is not None and 0 <= no_speech_token_id < logits.shape[1]:
            e = np.exp(logits[::how.count] - logits[::how.count].max(1, keepdims=True))
            silence.append((e / e.sum(1, keepdims=True))[:, no_speech_token_id])

    found = _typed(search(model, limits, how, listen), length_penalty, penalty)
    if len(run.wanted) > 4 and run.wanted[4]:
        if not silence:
            raise RunError(f"no_speech_token_id {no_speech_token_id} is no token")
        return (*found, None, silence[0].astype(found[1].dtype))
    return found
