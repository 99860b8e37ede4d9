"""That engines answer an export's trials as the framework did."""

from __future__ import annotations

from collections.abc import Iterable

import gesher
from gesher.evaluator.difference import difference
from gesher.frontends.protocol import Exported


def passes(exported: Exported, engines: Iterable[str]) -> None:
    """Each engine passes every trial, within the trial's tolerances."""
    for engine in engines:
        with gesher.session(exported.model, engine) as session:
            for trial in exported.trials:
                got = session.run(trial.feeds)
                for output, answer in trial.answers.items():
                    d = difference(got[output], answer, rtol=trial.rtol.get(output), atol=trial.atol.get(output))
                    assert d.ok, (engine, trial.name, output, d)
