"""Operators on strings. Tensors of them are object arrays of `str` (`bytes` where a string is not UTF-8).

They stay with the reference rules.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import RunError
from gesher.symbolic import bounds, decide_eq, fresh

from ..broadcasting import broadcast_inputs
from ..rules import InferNode
from ..schema import BOOL, STRING, Attr, Input, Output, op, tensors
from ..sizes import print_sizes


def _each(function: Any, x: Any, dtype: Any) -> Any:
    out = np.empty(x.shape, dtype)
    for at in np.ndindex(*x.shape):
        out[at] = function(x[at])
    return out


def _text(s: Any) -> str:
    """A string of a tensor as text; bytes that are no UTF-8 keep their values, so that they can be told apart."""
    return s.decode("utf-8", "surrogateescape") if isinstance(s, bytes) else str(s)


# StringConcat

StringConcat = op("StringConcat", Input("X"), Input("Y"), Output("Z"), since=20, T=STRING)


@StringConcat.infer
def _(node: InferNode) -> None:
    node.set(0, dtypes.STRING, broadcast_inputs(node))


@StringConcat.reference
def string_concat(x: Any, y: Any) -> Any:
    x, y = np.broadcast_arrays(x, y)
    out = np.empty(x.shape, object)
    for at in np.ndindex(*x.shape):
        out[at] = _text(x[at]) + _text(y[at])
    return out


# StringSplit

StringSplit = op("StringSplit", Input("X", "T1"), Output("Y", "T2"), Output("Z", "T3"), Attr("delimiter", "string"),
                 Attr("maxsplit", "int"), since=20, T1=STRING, T2=STRING, T3=tensors("int64"))


@StringSplit.infer
def _(node: InferNode) -> None:
    shape = node.shape(0)
    most = node["maxsplit"]
    parts = fresh("StringSplit: into how many parts depends on the data",
                  max=None if most is None or most < 0 else most + 1)
    node.set(0, dtypes.STRING, None if shape is None else (*shape, parts))
    node.set(1, dtypes.INT64, shape)


@StringSplit.reference
def string_split(x: Any, *, delimiter: str | None, maxsplit: int | None) -> Any:
    most = -1 if maxsplit is None else maxsplit
    if delimiter:
        parts = [_text(s).split(delimiter, most) for s in x.reshape(-1)]
    else:
        # White space of any length divides; none is left at either end, even of a rest that is not split any more.
        parts = [_text(s).strip().split(None, most) for s in x.reshape(-1)]
    out = np.full((x.size, max(map(len, parts), default=0)), "", object)
    for row, found in zip(out, parts):
        row[:len(found)] = found
    counts = np.array([len(found) for found in parts], np.int64)
    return out.reshape(*x.shape, out.shape[1]), counts.reshape(x.shape)


# StringNormalizer

StringNormalizer = op("StringNormalizer", Input("X", "tensor(string)"), Output("Y", "tensor(string)"),
                      Attr("case_change_action", "string", "NONE"), Attr("is_case_sensitive", "int", 0),
                      Attr("stopwords", "strings"), Attr("locale", "string"), since=10)


@StringNormalizer.infer
def _(node: InferNode) -> None:
    shape = node.shape(0)
    if node["case_change_action"] not in ("NONE", "LOWER", "UPPER"):
        node.fail(f"there is no case_change_action {node['case_change_action']!r}")
    if shape is None:
        node.set(0, dtypes.STRING, None, why="the rank of the input is unknown")
        return
    if len(shape) not in (1, 2) or (len(shape) == 2 and decide_eq(shape[0], 1) is False):
        node.fail(f"the input is [C] or [1, C], not {print_sizes(shape)}")
    if not node["stopwords"]:
        node.set(0, dtypes.STRING, shape)
        return
    most = bounds(shape[-1])[1]
    kept = fresh("StringNormalizer: how many words stay depends on the data", min=1,
                 max=None if most is None else max(most, 1))
    node.set(0, dtypes.STRING, (*shape[:-1], kept))


@StringNormalizer.reference
def string_normalizer(x: Any, *, case_change_action: str, is_case_sensitive: int, stopwords: Sequence[str] | None,
                      locale: str | None) -> Any:
    if x.ndim not in (1, 2) or (x.ndim == 2 and x.shape[0] != 1):
        raise RunError(f"StringNormalizer: the input is [C] or [1, C], not {list(x.shape)}")
    words = [_text(s) for s in x.reshape(-1)]
    if stopwords:
        if is_case_sensitive:
            stop = {_text(s) for s in stopwords}
            words = [w for w in words if w not in stop]
        else:
            stop = {_text(s).lower() for s in stopwords}
            words = [w for w in words if w.lower() not in stop]
    change = {"LOWER": str.lower, "UPPER": str.upper}.get(case_change_action, str)
    # A tensor of no strings is said as one empty string.
    out = np.array([change(w) for w in words] if words or not x.size else [""], object)
    return out.reshape(*x.shape[:-1], -1)


# RegexFullMatch

RegexFullMatch = op("RegexFullMatch", Input("X", "T1"), Output("Y", "T2"), Attr("pattern", "string"), since=20,
                    T1=STRING, T2=BOOL)


@RegexFullMatch.infer
def _(node: InferNode) -> None:
    if node["pattern"] is None:
        node.fail("the attribute 'pattern' is missing")
    node.set(0, dtypes.BOOL, node.shape(0))


# What RE2 spells otherwise than Python: the end of the text, and classes of Unicode and ASCII in brackets.
_ASCII_CLASSES = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": r"\x00-\x7F", "blank": r"\t ", "cntrl": r"\x00-\x1F\x7F",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": " -~", "punct": r"!-/:-@\[-`{-~", "space": r"\t\n\v\f\r ",
    "upper": "A-Z", "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}


def re2_pattern(pattern: str) -> re.Pattern[str]:
    r"""A pattern in RE2's syntax as Python reads it: \d, \w, \s and \b know ASCII only, \z ends the text.

    Raises:
        RunError: it uses what Python has no word for, such as \p{Greek}, or it is no pattern.
    """
    out, i, in_class = [], 0, False
    while i < len(pattern):
        c = pattern[i]
        if c == "\\" and i + 1 < len(pattern):
            following = pattern[i + 1]
            if following == "z":
                out.append(r"\Z")
            elif following == "Q":
                end = pattern.find(r"\E", i + 2)
                end = len(pattern) if end < 0 else end
                out.append(re.escape(pattern[i + 2:end]))
                i = end + 2
                continue
            elif following == "x" and pattern[i + 2:i + 3] == "{" and (end := pattern.find("}", i)) > 0:
                try:
                    out.append(re.escape(chr(int(pattern[i + 3:end], 16))))
                except (ValueError, OverflowError):
                    raise RunError(f"RegexFullMatch: {pattern[i:end + 1]} names no character") from None
                i = end + 1
                continue
            elif following in "pPCX":
                raise RunError(f"RegexFullMatch: \\{following} in {pattern!r} is not supported")
            elif following in "123456789":
                raise RunError(f"RegexFullMatch: {pattern!r} refers back, which RE2 does not know")
            else:
                out.append(pattern[i:i + 2])
            i += 2
            continue
        if in_class and pattern.startswith("[:", i) and (end := pattern.find(":]", i)) > 0:
            name = pattern[i + 2:end]
            if name not in _ASCII_CLASSES:
                raise RunError(f"RegexFullMatch: there is no class [:{name}:]")
            out.append(_ASCII_CLASSES[name])
            i = end + 2
            continue
        if c == "[" and not in_class:
            in_class = True
            # A bracket that comes first stands for itself.
            start = i + 1 + (pattern[i + 1:i + 2] == "^")
            if pattern[start:start + 1] == "]":
                out.append(pattern[i:start] + r"\]")
                i = start + 1
                continue
        elif c == "]" and in_class:
            in_class = False
        elif c == "[" and in_class:
            out.append("\\")
        elif pattern.startswith(("(?=", "(?!", "(?<=", "(?<!"), i) and not in_class:
            raise RunError(f"RegexFullMatch: {pattern!r} looks around, which RE2 does not know")
        out.append(c)
        i += 1
    try:
        return re.compile("".join(out), re.ASCII)
    except re.error as e:
        raise RunError(f"RegexFullMatch: {pattern!r} is no pattern: {e}") from None


@RegexFullMatch.reference
def regex_full_match(x: Any, *, pattern: str | None) -> Any:
    if pattern is None:
        raise RunError("RegexFullMatch: the attribute 'pattern' is missing")
    compiled = re2_pattern(pattern)
    return _each(lambda s: compiled.fullmatch(_text(s)) is not None, x, np.bool_)
