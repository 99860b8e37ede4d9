"""What Python makes of single characters: lower case, accents, classes of regular expressions, as tables.

The tables are made from the Unicode data of the Python that exports, never from a locale, so that a model answers alike
on every machine. `str.lower` looks at one character at a time but for the capital sigma, which ends a word as another
letter than it begins one with: that is said by what is around it (`SIGMA`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from typing import Any

from gesher.base.errors import UnsupportedError

SIGMA, MIDDLE, FINAL = "\u03a3", "\u03c3", "\u03c2"
Image = Callable[[str], str]


@cache
def every_character() -> tuple[str, ...]:
    """All that a string of ONNX can hold: the surrogates are no characters."""
    return tuple(chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000)


@cache
def word_characters() -> frozenset[str]:
    r"""What `\w` takes."""
    return frozenset(re.findall(r"\w", "".join(every_character())))


@cache
def spaces() -> frozenset[str]:
    r"""What `str.split` and `\s` take for white space."""
    return frozenset(c for c in every_character() if c.isspace())


@cache
def preprocessed(lower: bool, accents: str) -> dict[str, str]:
    """What each character becomes, those that stay left out.

    Args:
        accents: "", "ascii" or "unicode", as `strip_accents` names them.
    """
    changed = {}
    for c in every_character():
        now = c.lower() if lower else c
        if accents and not now.isascii():
            parts = unicodedata.normalize("NFKD", now)
            # Marks change places there, but only such as are left out below.
            now = "".join(p for p in parts if (p.isascii() if accents == "ascii" else not unicodedata.combining(p)))
        if now != c:
            changed[c] = now
    return changed


@cache
def sigma_neighbours() -> tuple[frozenset[str], frozenset[str]]:
    """The letters that have a case, and what a capital sigma looks past when it looks for one."""
    cased = frozenset(c for c in every_character() if f"A{SIGMA}{c}".lower()[1] == MIDDLE)
    past = frozenset(c for c in every_character() if c not in cased and f"A{SIGMA}{c}A".lower()[1] == MIDDLE)
    return cased, past


def ranges(characters: Iterable[str]) -> str:
    """A class of a regular expression that holds just these, in the syntax of RE2."""
    return _ranges(characters if isinstance(characters, frozenset) else frozenset(characters))


@lru_cache(64)
def _ranges(characters: frozenset[str]) -> str:
    # Of most characters it is shorter to say which are not meant.
    most = len(characters) > len(every_character()) // 2
    codes = sorted(map(ord, _everything() - characters if most else characters))
    parts, start = [], 0
    for i in range(1, len(codes) + 1):
        if i == len(codes) or codes[i] != codes[i - 1] + 1:
            low, high = codes[start], codes[i - 1]
            parts.append(f"\\x{{{low:X}}}" if low == high else f"\\x{{{low:X}}}-\\x{{{high:X}}}")
            start = i
    return ("[^" if most else "[") + "".join(parts) + "]"


@cache
def _everything() -> frozenset[str]:
    return frozenset(every_character())


class Runs:
    """What a token pattern finds: the longest runs of some characters, of a least length.

    Attributes:
        members: the characters.
        least: how many at the least.
        words: what else may not stand beside a run (with `\\b` around a class that is less than `\\w`); empty mostly.
    """

    __slots__ = ("least", "members", "words")

    def __init__(self, members: frozenset[str], least: int, words: frozenset[str]):
        self.members, self.least, self.words = members, least, words


@lru_cache(16)
def read_pattern(pattern: str, who: str) -> Runs:
    r"""A token pattern as runs: `(?u)\b\w\w+\b`, `[a-z]{3,}`, `\S+` and their like.

    Raises:
        UnsupportedError: it finds something else.
    """
    import re._constants as codes
    import re._parser as parser

    def refuse(why: str) -> UnsupportedError:
        return UnsupportedError(f"{who}(token_pattern={pattern!r}) has no way to ONNX: it {why}", who="sklearn",
                                advice="patterns cross that find runs of one class of characters, as \\w\\w+ or "
                                       "[a-z]{3,}, with or without \\b at both ends")

    compiled = re.compile(pattern)
    items = list(parser.parse(pattern))
    if len(items) == 1 and items[0][0] is codes.SUBPATTERN:
        items = list(items[0][1][3])

    def is_edge(item: Any) -> bool:
        return bool(item[0] is codes.AT and item[1] is codes.AT_BOUNDARY)

    edges = (bool(items) and is_edge(items[0]), len(items) > 1 and is_edge(items[-1]))
    items = items[int(edges[0]):len(items) - int(edges[1])]
    if len(items) == 1 and items[0][0] is codes.SUBPATTERN:
        items = list(items[0][1][3])
    kinds: set[str] = set()    # of the characters that items take
    least, endless = 0, False
    for code, value in items:
        count = (1, 1)
        if code is codes.MAX_REPEAT:
            low, high, inner = value
            if len(inner) != 1:
                raise refuse("repeats more than one character")
            count, (code, value) = (low, high), inner[0]
        if code not in (codes.IN, codes.LITERAL, codes.NOT_LITERAL, codes.ANY):
            raise refuse(f"holds {str(code).lower()}")
        kinds.add(repr(value if code is codes.IN else (code, value)))
        least += count[0]
        endless |= count[1] is codes.MAXREPEAT
        if count[0] != count[1] and count[1] is not codes.MAXREPEAT:
            raise refuse("has an upper limit of repeats")
    if len(kinds) != 1 or not endless or least < 1:
        raise refuse("does not find runs of one class of characters")
    # One character of the class, said by the pattern itself, so that its flags hold.
    code, value = items[0]
    members = _members(value[2] if code is codes.MAX_REPEAT else [items[0]], compiled.flags)
    words = word_characters()
    if compiled.flags & re.ASCII:
        words = frozenset(w for w in words if w.isascii())
    if edges == (False, False) or members == words:
        return Runs(members, least, frozenset())
    if edges == (True, True) and members <= words:
        return Runs(members, least, words - members)
    raise refuse("has \\b beside a class that reaches beyond \\w" if all(edges) else "has \\b at one end")


def _members(one: Any, flags: int) -> frozenset[str]:
    """All characters that a parsed item of one character takes."""
    import re._compiler as compiler
    import re._parser as parser

    state = parser.State()
    state.flags = flags
    single = compiler.compile(parser.SubPattern(state, list(one)), flags)
    return frozenset(single.findall("".join(every_character())))
