"""What the book says of an operator, as data and as text: the tables of `gesher ops` are made from this."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import numpy as np

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


def about(operator: Operator) -> str:
    """What its family file says in its first paragraph; "" where it is in none."""
    module = sys.modules.get(operator.family)
    text = (module.__doc__ or "") if module is not None else ""
    return " ".join(text.strip().split("\n\n")[0].split())


def explain(operator: Operator) -> dict[str, Any]:
    """One operator in full, as data: its newest signature, what each version changed, which rules it has."""
    newest, facts = operator.versions[-1], row(operator)
    before: list[Schema | None] = [None, *operator.versions]
    versions = [{"version": s.version, "changes": _changes(old, s) if old is not None else ["first version"],
                 "meaning": s.behaviour} for old, s in zip(before, operator.versions)]
    return {**facts, "family": operator.family.removeprefix("gesher.ops."), "about": about(operator),
            "inputs": [_formal(f) for f in newest.inputs], "outputs": [_formal(f) for f in newest.outputs],
            "attributes": [_attribute(a) for a in newest.attributes.values()],
            "types": {name: short_types(types) for name, types in newest.types.items()}, "changes": versions}


def describe(operator: Operator) -> str:
    """One operator in full, as text."""
    told = explain(operator)
    newest = operator.versions[-1]
    lines = [f"{told['name']}, version {newest.version} of {told['domain']}"
             + (" (deprecated)" if newest.deprecated else "")]
    if told["about"]:
        lines += [f"  of the family {told['family'].replace('.', '/')}:",
                  *wrap(told["about"], 100, initial_indent="    ", subsequent_indent="    ")]
    lines.append("signature")
    for title, name in (("takes", "inputs"), ("gives", "outputs"), ("attribute", "attributes")):
        lines += [f"  {title:9} {f}" for f in told[name]]
    for name, types in told["types"].items():
        lines += wrap(f"{name} is {types}", 88, initial_indent="  where     ", subsequent_indent="            ")
    lines.append("versions")
    for v in told["changes"]:
        said = [*v["changes"], *([f"meaning: {v['meaning']}"] if v["meaning"] else [])]
        lines += wrap("; ".join(said or ["nothing but the text"]), 100, initial_indent=f"  {v['version']:3}  ",
                      subsequent_indent="       ")
    lines.append("rules since version")
    lines.append(f"  inference {told['infer']}, reference {told['reference']}, compiled {told['lower']}")
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


def _formal(f: Input) -> str:
    how = " (optional)" if f.optional else f" (any number, at least {f.least})" if f.variadic else ""
    return f"{f.name}: {f.type}{how}"


def _attribute(a: Attr) -> str:
    if a.default is REQUIRED:
        default = " (required)"
    elif a.default is None:
        default = ""
    else:
        # A default of float32 in as few digits as name it.
        default = f" = {np.float32(a.default)!s}" if a.kind == "float" else f" = {a.default!r}"
    return f"{a.name}: {a.kind}{default}"


def short_types(types: Types) -> str:
    """A set of types in a few words: of `tensor(float)`, `tensor(double)` and `seq(tensor(float))` it is
    `float double, seq of float`."""
    kinds: dict[str, set[str]] = {}
    for t in types:
        found = _WRAPPED.fullmatch(t)
        lead, inner = (found[1], found[2]) if found else (t, "")
        kinds.setdefault(lead, set()).add(inner)
    parts: list[str] = []
    for lead in sorted(kinds, key=lambda k: (k.count("("), k)):
        # Maps and sparse tensors are spelled as they are.
        parts.append(lead.replace("(", " of ") + _names(kinds[lead]) if kinds[lead] != {""} else lead)
    return ", ".join(parts)


_WRAPPED = re.compile(r"((?:\w+\()*?)tensor\((\w+)\)+")


def _names(plain: set[str]) -> str:
    named = [d.name for d in dtypes.all_dtypes() if d.name in plain]
    return "any tensor" if len(named) == len(list(dtypes.all_dtypes())) else " ".join(named)


def _renamed(before: Sequence[Input], after: Sequence[Input]) -> dict[str, str]:
    """Formals in the same place that only changed their name: old to new."""
    had, has = {f.name for f in before}, {f.name for f in after}
    return {a.name: b.name for a, b in zip(before, after)
            if a.name not in has and b.name not in had and (a.optional, a.variadic) == (b.optional, b.variadic)}


def _type_changes(old: Schema, new: Schema) -> list[str]:
    """What a constraint allows more or less, told once for all that it binds; else formal by formal."""
    changes: list[str] = []
    for name in new.types:
        if name in old.types:
            changes += _difference(name, old.types[name], new.types[name])
    for word, before, after in (("takes", old.inputs, new.inputs), ("gives", old.outputs, new.outputs)):
        renamed = _renamed(before, after)
        had = {renamed.get(f.name, f.name): f for f in before}
        for f in after:
            # Of a constraint that stayed, all is told.
            if f.name in had and not (f.type == had[f.name].type and f.type in old.types):
                changes += _difference(f.name, old.allowed(had[f.name].type), new.allowed(f.type), word)
    return list(dict.fromkeys(changes))


def _difference(name: str, before: Types, after: Types, verb: str = "takes") -> list[str]:
    more, less = after - before, before - after
    return [f"{name} {verb} {short_types(types)} {word}" for types, word in ((more, "too"), (less, "no more")) if types]


def _parted(old: Schema, new: Schema) -> list[str]:
    """Formals that had to be of one type, and may now differ."""
    changes: dict[str, list[str]] = {}
    was = [*old.inputs, *old.outputs]
    now = {f.name: f.type for f in (*new.inputs, *new.outputs)}
    for i, f in enumerate(was):
        first = next(g for g in was if g.type == f.type)
        if i and first is not f and f.type in old.types and f.name in now and first.name in now \
                and now[f.name] != now[first.name]:
            changes.setdefault(first.name, []).append(f.name)
    return [f"{', '.join(names)} need not have the type of {first}" for first, names in changes.items()]


def _changes(old: Schema, new: Schema) -> list[str]:
    changes: list[str] = [new.note] if new.note else []
    for what, before, after in (("input", old.inputs, new.inputs), ("output", old.outputs, new.outputs)):
        renamed = _renamed(before, after)
        changes += [f"{what} {a} is called {b}" for a, b in renamed.items()]
        had, has = {renamed.get(f.name, f.name): f for f in before}, {f.name: f for f in after}
        changes += [f"new {what} {n}" for n in has if n not in had]
        changes += [f"no {what} {n}" for n in had if n not in has]
        for n in has:
            if n in had and had[n].variadic != has[n].variadic:
                changes.append(f"{what} {n} is {'any number of them' if has[n].variadic else 'one'} now")
            elif n in had and had[n].optional != has[n].optional:
                changes.append(f"{what} {n} is {'optional' if has[n].optional else 'required'} now")
    changes += [f"new attribute {_attribute(a)}" for n, a in new.attributes.items() if n not in old.attributes]
    changes += [f"no attribute {n}" for n in old.attributes if n not in new.attributes]
    changes += [f"attribute {_attribute(a)}, before {_attribute(old.attributes[n]).removeprefix(n + ': ')}"
                for n, a in new.attributes.items() if n in old.attributes and old.attributes[n] != a]
    changes += _type_changes(old, new)
    changes += _parted(old, new)
    if new.deprecated and not old.deprecated:
        changes.append("deprecated")
    return changes
