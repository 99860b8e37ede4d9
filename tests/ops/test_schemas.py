"""The book's schemas are those that the onnx package publishes: every operator in every version, zero differences."""

from __future__ import annotations

from typing import Any

import onnx
import pytest

from gesher import ops
from gesher.ops.schema import REQUIRED, Operator, Schema

_PUBLISHED: dict[tuple[str, str], dict[int, Any]] = {}
for _schema in onnx.defs.get_all_schemas_with_history():
    _PUBLISHED.setdefault((_schema.domain, _schema.name), {})[_schema.since_version] = _schema

_DOMAINS = {domain for domain, _ in _PUBLISHED}
# ONNX Runtime has registered this one in ONNX's own domain, and models carry it there.
_NOT_ONNX = {("", "SimplifiedLayerNormalization")}
_BOOK = {(o.domain, o.name): o for o in ops.operators() if o.domain in _DOMAINS
         and (o.domain, o.name) not in _NOT_ONNX}


def test_the_book_is_open() -> None:
    assert len(_BOOK) > 90
    assert not _NOT_ONNX & set(_PUBLISHED)


@pytest.mark.parametrize("key", sorted(_BOOK), ids=lambda k: f"{k[0]}.{k[1]}" if k[0] else k[1])
def test_schemas_equal_those_of_onnx(key: tuple[str, str]) -> None:
    assert key in _PUBLISHED, "onnx has no such operator"
    operator, published = _BOOK[key], _PUBLISHED[key]
    assert [s.version for s in operator.versions] == sorted(published)
    for s in operator.versions:
        assert ours(s) == theirs(published[s.version]), f"version {s.version}"


def ours(s: Schema) -> dict[str, Any]:
    """A schema of the book as plain data. The set of a type variable stands beside each input and output."""
    used = {f.type for f in (*s.inputs, *s.outputs)}
    return {
        "inputs": [_formal(f) for f in s.inputs],
        "outputs": [_formal(f) for f in s.outputs],
        "attributes": {a.name: (a.kind_code.name, a.default is REQUIRED,
                                None if a.default is REQUIRED else _plain(a.default)) for a in s.attributes.values()},
        "types": {name: sorted(types) for name, types in s.types.items()},
        "deprecated": s.deprecated,
        "unused type variables": sorted(set(s.types) - used),
        "least and most": (s.min_inputs, s.max_inputs, s.min_outputs, s.max_outputs),
    }


def _formal(f: Any) -> tuple[Any, ...]:
    return f.name, f.type, "variadic" if f.variadic else "optional" if f.optional else "single", f.homogeneous, f.least


def theirs(s: Any) -> dict[str, Any]:
    """A published schema as the same plain data."""
    used = {f.type_str for f in (*s.inputs, *s.outputs)}
    most = 2**31 - 1
    return {
        "inputs": [_published(f) for f in s.inputs],
        "outputs": [_published(f) for f in s.outputs],
        # Only in a schema is the kind TYPE called TYPE_PROTO.
        "attributes": {a.name: (a.type.name.removesuffix("_PROTO"), a.required, _default(a))
                       for a in s.attributes.values()},
        "types": {c.type_param_str: sorted(c.allowed_type_strs) for c in s.type_constraints},
        "deprecated": s.deprecated,
        "unused type variables": sorted({c.type_param_str for c in s.type_constraints} - used),
        "least and most": (s.min_input, None if s.max_input == most else s.max_input,
                           s.min_output, None if s.max_output == most else s.max_output),
    }


def _published(f: Any) -> tuple[Any, ...]:
    return f.name, f.type_str, f.option.name.lower(), f.is_homogeneous, f.min_arity


def _default(a: Any) -> Any:
    if not a.default_value.type:
        return None
    return _plain(onnx.helper.get_attribute_value(a.default_value))


def _plain(value: Any) -> Any:
    """Defaults as they compare: text for strings, tuples for lists."""
    if isinstance(value, bytes):
        return value.decode()
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


def test_a_difference_is_seen() -> None:
    """The comparison itself: changing any one fact of a schema makes it unequal."""
    find: Operator | None = ops.find("", "Clip")
    assert find is not None
    newest, older = find.versions[-1], find.versions[0]
    assert ours(newest) != theirs(_PUBLISHED["", "Clip"][older.version])
    assert ours(newest)["types"] != ours(older)["types"]
    assert ours(newest)["inputs"] != ours(older)["inputs"]
    assert ours(newest)["attributes"] != ours(older)["attributes"]
