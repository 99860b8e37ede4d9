"""Real architectures cross, small and with random weights: the rows of `bench/architecture_zoo`, on three engines.

Sampled by default, all under GESHER_TEST_ALL=1; `bench/architectures.py` prints the whole table with causes.
"""

import os
import random
import warnings

import pytest

pytest.importorskip("transformers", reason="the architectures are those of transformers")

from bench.architecture_zoo import architectures

import gesher
from gesher.evaluator.difference import difference
from gesher.frontends import ExportOptions, frontend_for, verify

ROWS = architectures()
SAMPLED = 4
# The others are for `bench/architectures.py`, which takes long.
KINDS = ("text", "language", "seq2seq", "audio", "vision", "multimodal")


def chosen() -> list[str]:
    names = [n for n, row in ROWS.items() if not row.static_only and row.kind in KINDS]
    return names if os.environ.get("GESHER_TEST_ALL") == "1" else random.Random(5).sample(sorted(names), SAMPLED)


@pytest.mark.slow
@pytest.mark.parametrize("name", chosen())
def test_an_architecture_with_free_dims_is_right_at_every_size_tried(name: str) -> None:
    try:
        case = ROWS[name].case()
    except ImportError as e:
        pytest.skip(f"{name} cannot be built here: {e}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = frontend_for(case.module).export(case.module, case.example,
                                                ExportOptions(dynamic=case.dynamic, **case.settings))
    assert len(made.trials) >= 3 and any(1 in t.sizes.values() for t in made.trials)
    verify(made)
    assert gesher.check(made.model).ok
    for engine in ("onnxruntime", "compiled"):
        with gesher.session(made.model, engine) as session:
            for trial in made.trials:
                got = session.run(trial.feeds)
                for output, answer in trial.answers.items():
                    d = difference(got[output], answer, rtol=case.rtol or trial.rtol.get(output),
                                   atol=case.atol or trial.atol.get(output))
                    assert d.ok, (engine, trial.name, output, d)


def test_the_zoo_has_the_architectures_of_text() -> None:
    wanted = {"BERT", "RoBERTa", "ALBERT", "ELECTRA", "DeBERTa-v2", "ModernBERT", "DistilBERT", "GPT-2", "GPT-NeoX",
              "OPT", "BLOOM", "Llama", "Mistral", "Mixtral", "Qwen2", "Qwen3", "Qwen3-MoE", "Gemma 2", "Gemma 3",
              "Phi-3", "DeepSeek-V3", "gpt-oss", "Mamba", "Llama with past", "Qwen3 with past", "GPT-2 with past",
              "Gemma 3 with past", "T5", "BART", "Whisper"}
    assert wanted <= set(ROWS)
