"""Where an engine's answers are not the framework's, on the trials that an export comes with."""

from __future__ import annotations

from collections.abc import Iterator

import gesher
from gesher.evaluator.difference import Difference, difference
from gesher.frontends.protocol import Exported, Trial


def faults(exported: Exported, engine: str) -> Iterator[tuple[Trial, str, Difference]]:
    """Each trial and output that differs, and how.

    Raises:
        UnsupportedError: the engine cannot run the model.
    """
    with gesher.session(exported.model, engine) as session:
        for trial in exported.trials:
            got = session.run(trial.feeds)
            for output, answer in trial.answers.items():
                d = difference(got[output], answer, rtol=trial.rtol.get(output), atol=trial.atol.get(output))
                if not d.ok:
                    yield trial, output, d
