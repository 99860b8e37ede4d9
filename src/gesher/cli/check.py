"""`gesher check`: every fault of a model."""

from __future__ import annotations

from pathlib import Path

import click

from .console import FOUND_WRONG, say, say_json
from .inputs import json_option


@click.command()
@click.argument("model", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--strict", is_flag=True, help="Hold names to the letter of ONNX, too; and warnings count as wrong.")
@click.option("--weights", is_flag=True, help="Look at the numbers of all weights, not of the small ones alone.")
@json_option
def command(model: tuple[Path, ...], strict: bool, weights: bool, as_json: bool) -> None:
    """Check models: every finding in one pass, each with its place, the rule, and advice.

    \b
    Example:
      gesher check model.onnx
      gesher check models/*.onnx --json
      gesher check model.onnx --strict --weights
    """
    import gesher

    wrong = False
    answers = []
    for path in model:
        try:
            report = gesher.check(path, strict=strict, weights=weights or None)
        except (gesher.FormatError, gesher.ModelError) as e:
            report = gesher.Report()
            report.error(getattr(e, "rule", "") or "format", e.what, e.place or (path.name,), e.advice)
        wrong |= bool(report.errors) or (strict and bool(report.findings))
        if as_json:
            answers.append({"model": str(path), "ok": report.ok, "findings": report.as_json()})
            continue
        for finding in report:
            say(str(finding))
        say(f"{path}: " + ("no findings" if not report.findings else
                           f"{len(report.errors)} errors, {len(report.warnings)} warnings"))
    if as_json:
        say_json(answers)
    if wrong:
        raise SystemExit(FOUND_WRONG)
