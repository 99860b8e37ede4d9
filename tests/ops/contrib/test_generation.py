"""Searches for text answer as ONNX Runtime's do, with models of one layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from tests.ops.contrib import tiny_models as tiny
from tests.ops.contrib.nodes import MS
from tests.ops.single_node import session

from gesher import ops
from gesher.base.errors import GesherError, RunError, UnsupportedError
from gesher.evaluator.evaluator import Evaluator
from gesher.inference import infer
from gesher.ir.files import from_bytes
from gesher.symbolic import Dim

END, PAD, START = 5, 0, 2
IDS = {"eos_token_id": END, "pad_token_id": PAD}
RNG = np.random.default_rng(40)
PROMPT = np.array([[0, 0, 6, 3], [4, 1, 1, 1], [2, 9, 8, 11]], np.int32)
MASK = np.array([[0, 0, 0, 1], [0, 1, 1, 1], [1, 1, 1, 1]], np.int32)


def count(n: int) -> Any:
    return np.array([n], np.int32)


def number(x: float) -> Any:
    return np.array([x], np.float32)


def model(op: str, inputs: dict[str, Any], outputs: list[str], **attributes: Any) -> bytes:
    """A node with these inputs, by the names of its schema."""
    operator = ops.find(MS, op)
    assert operator is not None
    formals = [f.name for f in operator.versions[0].inputs]
    names = [n if n in inputs else "" for n in formals]
    while not names[-1]:
        names.pop()
    node = helper.make_node(op, names, outputs, domain=MS, **attributes)
    graph = helper.make_graph([node], "search", [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in inputs.items()],
        [helper.make_tensor_value_info(o, onnx.TensorProto.INT32 if o == "sequences" else onnx.TensorProto.FLOAT, None)
         for o in outputs if o])
    made: onnx.ModelProto = helper.make_model(graph, ir_version=8, opset_imports=[
        helper.make_opsetid("", 17), helper.make_opsetid(MS, 1)])
    return made.SerializeToString()


def ours(proto: bytes, feeds: dict[str, Any]) -> list[Any]:
    """What the reference gives, and inference must have said."""
    loaded = from_bytes(proto)
    got = list(Evaluator(loaded).run(feeds).values())
    facts = infer(loaded)
    assert not facts.findings, [f.message for f in facts.findings]
    for value, x in zip(loaded.graph.outputs, got):
        fact = facts[value]
        assert fact.shape is not None
        assert len(fact.shape) == x.ndim
        assert all(a == b for a, b in zip(fact.shape, x.shape) if not isinstance(a, Dim)), f"{fact} is not {x.shape}"
    return got


# One token after the other

def check_greedy(inputs: dict[str, Any], **attributes: Any) -> None:
    """Behind the place where the last sequence ended, ONNX Runtime leaves what was in memory."""
    proto = model("GreedySearch", inputs, ["sequences"], **{**IDS, **attributes})
    (got,), (want,) = ours(proto, inputs), session(proto).run(None, inputs)
    end = got.shape[1]
    while not got[:, end - 1].any():
        end -= 1
    np.testing.assert_array_equal(got[:, :end], want[:, :end])
    assert got.shape == want.shape


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("more", [
    {}, {"attention_mask": MASK}, {"repetition_penalty": number(2.0)}, {"min_length": count(8)},
    {"vocab_mask": (np.arange(12) % 3 > 0).astype(np.int32)},
    {"prefix_vocab_mask": np.random.default_rng(1).integers(0, 2, (3, 12)).astype(np.int32)}],
    ids=lambda m: str(list(m)))
def test_greedy_search(more: dict[str, Any], seed: int) -> None:
    check_greedy({"input_ids": PROMPT, "max_length": count(12), **more}, decoder=tiny.decoder(seed))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_ngram_comes_twice(size: int) -> None:
    check_greedy({"input_ids": PROMPT, "max_length": count(12)}, decoder=tiny.decoder(2), no_repeat_ngram_size=size)


def test_a_vocabulary_that_is_filled_up() -> None:
    """As if what fills it up were masked. ONNX Runtime's CPU build takes the size for the distance of rows."""
    inputs = {"input_ids": PROMPT, "max_length": count(12)}
    few = ours(model("GreedySearch", inputs, ["sequences"], vocab_size=9, decoder=tiny.decoder(0), **IDS), inputs)
    inputs["vocab_mask"] = np.array([1] * 9 + [0] * 3, np.int32)
    masked = ours(model("GreedySearch", inputs, ["sequences"], decoder=tiny.decoder(0), **IDS), inputs)
    np.testing.assert_array_equal(few[0], masked[0])


def test_the_first_turn_may_have_a_graph_of_its_own() -> None:
    """ONNX Runtime takes it on GPUs only; so the first token must be that of the one graph, the others of the other."""
    inputs = {"input_ids": PROMPT, "max_length": count(6)}
    both = ours(model("GreedySearch", inputs, ["sequences"], decoder=tiny.decoder(1), init_decoder=tiny.decoder(0),
                      **IDS), inputs)[0]
    first = ours(model("GreedySearch", {**inputs, "max_length": count(5)}, ["sequences"], decoder=tiny.decoder(0),
                       **IDS), {**inputs, "max_length": count(5)})[0]
    np.testing.assert_array_equal(both[:, :5], first)


ROWS = 3000


@pytest.mark.parametrize("options", [
    {"top_p": 0.6}, {"top_p": 0.6, "custom": 1}, {"top_p": 0.9, "temperature": 2.5},
    {"top_p": 0.3, "min_tokens_to_keep": 3}, {"top_p": 0.95, "filter_value": -3.0},
    {"top_p": 0.0, "min_tokens_to_keep": 1}, {"top_p": 0.0}, {"top_p": 0.6, "no_repeat_ngram_size": 1}], ids=str)
def test_tokens_are_drawn_as_often(options: dict[str, Any]) -> None:
    """Of 3000 rows alike, 3.5 standard deviations of the difference of two shares are 0.05 at most."""
    inputs = {"input_ids": np.repeat(PROMPT[1:2], ROWS, 0), "max_length": count(5), "seed": count(3)}
    proto = model("Sampling", inputs, ["sequences"], decoder=tiny.decoder(0, 0.5), **{**IDS, "eos_token_id": 13},
                  **options)
    shares = [np.bincount(x[0][:, -1], minlength=12) / ROWS for x in (ours(proto, inputs),
                                                                     session(proto).run(None, inputs))]
    np.testing.assert_allclose(*shares, atol=0.05)
    assert set(np.nonzero(shares[0] > 0.01)[0]) == set(np.nonzero(shares[1] > 0.01)[0])


def test_what_sampling_filters_is_shown() -> None:
    """By hand, since ONNX Runtime shows it on GPUs only; and its penalty of presence, which it takes off one token."""
    presence = np.array([[1, 0] * 6], np.int32)
    inputs = {"input_ids": PROMPT[1:2], "max_length": count(5), "presence_mask": presence}
    options = {"decoder": tiny.decoder(0, 0.5), **IDS, "presence_penalty": 1.5}
    every = ours(model("Sampling", inputs, ["sequences", "filtered_logits"], top_p=1.0, **options), inputs)[1]
    some = ours(model("Sampling", inputs, ["sequences", "filtered_logits"], top_p=0.8, **options), inputs)[1]
    plain = ours(model("Sampling", inputs, ["sequences", "filtered_logits"], top_p=1.0,
                       **{**options, "presence_penalty": 0.0}), inputs)[1]
    np.testing.assert_allclose(plain - every, presence * 1.5, atol=1e-5)
    kept = some > -1e19
    shares = np.exp(every) / np.exp(every).sum()
    assert shares[kept].sum() >= 0.8
    assert shares[kept].sum() - shares[kept].min() < 0.8


# Beams

def check_beams(op: str, inputs: dict[str, Any], **attributes: Any) -> None:
    """Sample by sample: ONNX Runtime asks whether a sample has settled by the scores of another one. Its scores of
    turns that never came are what was in memory."""
    outputs = ["sequences", "sequences_scores", "scores"]
    # Where these are left out, ONNX Runtime refuses the node.
    inputs = {"min_length": count(1), "length_penalty": number(1.0), **inputs}
    whole = ours(model(op, inputs, outputs, **{**IDS, **attributes}), inputs)
    batch = len(inputs["input_ids"])
    for b in range(batch):
        own = {n: x[b:b + 1] if len(x) == batch and n not in ("vocab_mask",) else x for n, x in inputs.items()}
        want = session(model(op, own, outputs, **{**IDS, **attributes})).run(None, own)
        np.testing.assert_array_equal(whole[0][b:b + 1], want[0])
        np.testing.assert_allclose(whole[1][b:b + 1], want[1], atol=1e-4)
        alone = ours(model(op, own, outputs, **{**IDS, **attributes}), own)[2]
        came = alone.any((1, 2, 3))
        np.testing.assert_allclose(alone[came], want[2][came], rtol=1e-4, atol=1e-3)
        assert alone.shape == want[2].shape


def beams(n: int, wanted: int, longest: int = 10) -> dict[str, Any]:
    return {"max_length": count(longest), "num_beams": count(n), "num_return_sequences": count(wanted)}


@pytest.mark.parametrize("seed", [0, 2])
@pytest.mark.parametrize(("n", "wanted"), [(1, 1), (3, 3), (4, 2)])
@pytest.mark.parametrize(("more", "attributes"), [
    ({}, {}), ({}, {"early_stopping": 1}), ({"length_penalty": number(2.0)}, {}),
    ({"length_penalty": number(0.3)}, {}), ({"repetition_penalty": number(1.7)}, {}), ({"min_length": count(8)}, {}),
    ({"vocab_mask": (np.arange(12) % 4 > 0).astype(np.int32)}, {}), ({"attention_mask": MASK}, {}),
    ({"prefix_vocab_mask": np.random.default_rng(2).integers(0, 2, (3, 12)).astype(np.int32)}, {}),
    ({}, {"no_repeat_ngram_size": 2})], ids=lambda m: str(list(m)))
def test_beam_search(more: dict[str, Any], attributes: dict[str, Any], n: int, wanted: int, seed: int) -> None:
    check_beams("BeamSearch", {"input_ids": PROMPT, **beams(n, wanted), **more}, decoder=tiny.decoder(seed),
                **attributes)


@pytest.mark.parametrize("form", ["whole", "without hidden states", "encoder alone"])
@pytest.mark.parametrize(("n", "wanted"), [(1, 1), (3, 2)])
def test_an_encoder_and_a_decoder(n: int, wanted: int, form: str) -> None:
    for seed in range(3):
        check_beams("BeamSearch", {"input_ids": RNG.integers(1, 12, (2, 5)).astype(np.int32), **beams(n, wanted)},
                    encoder=tiny.encoder(seed, first=form != "encoder alone"),
                    decoder=tiny.cross_decoder(seed, hidden=form == "whole"), model_type=1,
                    decoder_start_token_id=START)


TIMES = {"beginning_timestamp_token_id": 8, "no_timestamps_token_id": 3, "start_of_lm_token_id": 4,
         "translate_token_id": 6, "transcribe_token_id": 7, "no_speech_token_id": 1, "decoder_start_token_id": START}


def whisper(seed: int) -> dict[str, Any]:
    # ONNX Runtime hands the decoder hidden states of the right shape with nothing in them.
    return {"encoder": tiny.encoder(seed, whisper=True), "decoder": tiny.cross_decoder(seed, mask=False, hidden=False)}


def features(batch: int) -> Any:
    return RNG.normal(0, 1, (batch, tiny.WIDTH, 5)).astype(np.float32)


@pytest.mark.parametrize("starts", [None, [[2, 9]], [[2, 1]]])
@pytest.mark.parametrize(("n", "wanted"), [(1, 1), (3, 2)])
@pytest.mark.parametrize("times", [0, 1])
def test_whisper(times: int, n: int, wanted: int, starts: Any) -> None:
    for seed in range(4):
        more = {} if starts is None else {"decoder_input_ids": np.repeat(np.array(starts, np.int32), 2, 0)}
        check_beams("WhisperBeamSearch", {"input_ids": features(2), **beams(n, wanted), **more,
                                          "logits_processor": count(times), "temperature": number(1.3)},
                    **whisper(seed), **TIMES)


def test_whisper_hears_silence() -> None:
    """By hand: the share of a token in the first scores. ONNX Runtime gives zeros, but for GPUs."""
    inputs = {"input_ids": features(2), "min_length": count(1), "length_penalty": number(1.0), **beams(2, 1)}
    proto = model("WhisperBeamSearch", inputs, ["sequences", "", "scores", "", "non_speech_probs"], **IDS, **TIMES,
                  **whisper(0))
    _, scores, silence = ours(proto, inputs)
    np.testing.assert_allclose(silence, np.exp(scores[0, :, 0, 1]), rtol=1e-4)


# What is refused

def test_what_does_not_fit_is_refused() -> None:
    def run(op: str, inputs: dict[str, Any], outputs: list[str], **attributes: Any) -> None:
        Evaluator(from_bytes(model(op, inputs, outputs, **{**IDS, **attributes}))).run(inputs)

    greedy = {"input_ids": PROMPT, "max_length": count(12)}
    with pytest.raises(RunError, match="leaves no room"):
        run("GreedySearch", {**greedy, "max_length": count(4)}, ["sequences"], decoder=tiny.decoder())
    with pytest.raises(UnsupportedError, match="model_type 1"):
        run("GreedySearch", greedy, ["sequences"], decoder=tiny.decoder(), model_type=1)
    with pytest.raises(GesherError, match="they begin with input_ids, position_ids"):
        run("GreedySearch", greedy, ["sequences"], decoder=tiny.cross_decoder())
    with pytest.raises(RunError, match="3 sequences of 2 beams"):
        run("BeamSearch", {"input_ids": PROMPT, **beams(2, 3)}, ["sequences"], decoder=tiny.decoder())
    with pytest.raises(UnsupportedError, match="shows its attention"):
        run("WhisperBeamSearch", {"input_ids": features(1), **beams(1, 1)}, ["sequences"], decoder_output_cross_qk=1,
            **TIMES, **whisper(0))
    facts = infer(from_bytes(model("BeamSearch", {"input_ids": PROMPT, **beams(2, 1)}, ["sequences"], model_type=1,
                                   decoder=tiny.cross_decoder(), **IDS)))
    assert any("asks for a graph 'encoder'" in f.message for f in facts.findings)
