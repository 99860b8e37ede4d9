"""Findings: what a check has to say, each with place, rule and advice, all in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Literal

from .errors import ModelError

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: `rule` is its kebab-case name, `place` goes from the outside in."""

    severity: Severity
    rule: str
    message: str
    place: tuple[str, ...] = ()
    advice: str | None = None

    def __str__(self) -> str:
        lines = [f"{self.severity}[{self.rule}]: {self.message}"]
        if self.place:
            lines.append("  at " + " › ".join(self.place))
        if self.advice:
            lines.append("  " + self.advice)
        return "\n".join(lines)


@dataclass(slots=True)
class Report:
    """The findings of one pass over one model, in the order of the graph."""

    findings: list[Finding] = field(default_factory=list)

    def error(self, rule: str, message: str, place: tuple[str, ...] = (), advice: str | None = None) -> None:
        self.findings.append(Finding("error", rule, message, tuple(place), advice))

    def warning(self, rule: str, message: str, place: tuple[str, ...] = (), advice: str | None = None) -> None:
        self.findings.append(Finding("warning", rule, message, tuple(place), advice))

    @property
    def errors(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "warning"]

    @property
    def ok(self) -> bool:
        """True when nothing is wrong; warnings do not count."""
        return not self.errors

    def raise_errors(self) -> None:
        """Raise a `ModelError` that carries the first error and counts the others."""
        errors = self.errors
        if not errors:
            return
        first = errors[0]
        more = f" (and {len(errors) - 1} more; `gesher check` lists all)" if len(errors) > 1 else ""
        raise ModelError(first.message + more, rule=first.rule, place=first.place, advice=first.advice)

    def as_json(self) -> list[dict[str, object]]:
        return [asdict(f) for f in self.findings]

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings)) or "no findings"
