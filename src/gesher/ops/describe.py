"""What the book says of an operator, as data and as text: the tables of `gesher ops` are made from this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gesher.base import dtypes

from .schema import REQUIRED, Attr, Input, Operator, RuleKind, Schema, Types


def row(operator: Operator) -> dict[str, Any]:
    """One operator's line: its versions, and for each kind of rule since which versions there is one."""
    def since(kind: RuleKind) -> str:
        return " ".join(str(r.since) for r in sorted(operator.rules.get(kind, ()), key=lambda r: r.since)) or "-"

    return {"name": f"{operator.domain}.{operator.name}" if operator.domain else operator.name,
            "domain": operator.domain or "ai.onnx", "versions": [s.version for s in operator.versions],
            "infer": since("infer"), "reference": since("reference"), "lower": since("lower"),
            "deprecated": operator.versions[-1].deprecated}


def describe(operator: Operator) -> str:
    """One operator in full: its newest signature, what each version changed, which rules it has."""
    newest = operator.versions[-1]
    lines = [f"{operator.domain + '.' if operator.domain else ''}{operator.name}, version {newest.version}"
             + (" (deprecated)" if newest.deprecated else "")]
    for title, formals in (("takes", newest.inputs), ("gives", newest.outputs)):
        lines += [f"  {title:9}{_formal(f, newest)}" for f in formals]
    lines += [f"  attribute {_attribute(a)}" for a in newest.attributes.values()]
    lines.append("versions")
    before: Schema | None = None
    for s in operator.versions:
        changes = _changes(before, s) if before is not None else ["first version"]
        if s.behaviour:
            changes.append(f"meaning: {s.behaviour}")
        lines.append(f"  {s.version:3}  " + "; ".join(changes or ["nothing but the text"]))
        before = s
    facts = row(operator)
    lines.append("rules since version")
    lines.append(f"  inference {facts['infer']}, reference {facts['reference']}, compiled {facts['lower']}")
    return "\n".join(lines)


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of operators as Markdown, a table for each domain; with columns of engines where the rows have them."""
    lines: list[str] = []
    for domain in dict.fromkeys(r["domain"] for r in rows):
        own = [r for r in rows if r["domain"] == domain]
        engines = list(own[0].get("engines", {}))
        versions = sum(len(r["versions"]) for r in own)
        heads = ["operator", "versions", "inference", "reference", "compiled", *(f"on {e}" for e in engines)]
        lines += [f"## {domain}", "", f"{len(own)} operators in {versions} versions.", "",
                  "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        for r in own:
            name = r["name"].removeprefix(f"{domain}.") + (" (deprecated)" if r["deprecated"] else "")
            cells = [f"`{name}`" if not r["deprecated"] else name, " ".join(map(str, r["versions"])), r["infer"],
                     r["reference"], r["lower"], *(r["engines"][e] for e in engines)]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines).rstrip()


def _formal(f: Input, schema: Schema) -> str:
    how = " (optional)" if f.optional else f" (any number, at least {f.least})" if f.variadic else ""
    return f"{f.name}{how}: {short_types(schema.allowed(f.type))}"


def _attribute(a: Attr) -> str:
    default = " (required)" if a.default is REQUIRED else "" if a.default is None else f" = {a.default!r}"
    return f"{a.name}: {a.kind}{default}"


def short_types(types: Types) -> str:
    """A set of types in a few words: `tensor(float), tensor(double)` is `float double`."""
    plain = {t[7:-1] for t in types if t.startswith("tensor(")}
    named = [d.name for d in dtypes.all_dtypes() if d.name in plain]
    if len(named) == len(list(dtypes.all_dtypes())):
        named = ["any tensor"]
    return " ".join([*named, *sorted(t for t in types if not t.startswith("tensor("))])


def _changes(old: Schema, new: Schema) -> list[str]:
    changes: list[str] = []
    for what, before, after in (("input", old.inputs, new.inputs), ("output", old.outputs, new.outputs)):
        had, has = {f.name: f for f in before}, {f.name: f for f in after}
        changes += [f"new {what} {n}" for n in has if n not in had]
        changes += [f"no {what} {n}" for n in had if n not in has]
        for n in has:
            if n in had and (had[n].optional, had[n].variadic) != (has[n].optional, has[n].variadic):
                changes.append(f"{what} {n} is {'optional' if has[n].optional else 'required'} now")
    changes += [f"new attribute {_attribute(a)}" for n, a in new.attributes.items() if n not in old.attributes]
    changes += [f"no attribute {n}" for n in old.attributes if n not in new.attributes]
    changes += [f"attribute {_attribute(a)}" for n, a in new.attributes.items()
                if n in old.attributes and old.attributes[n] != a]
    for name in new.types:
        more = new.types[name] - old.types.get(name, frozenset())
        less = old.types.get(name, frozenset()) - new.types[name]
        if more and name in old.types:
            changes.append(f"{name} takes {short_types(more)} too")
        if less:
            changes.append(f"{name} takes {short_types(less)} no more")
    if new.deprecated and not old.deprecated:
        changes.append("deprecated")
    return changes
