"""The characters of a text: identifiers, literals and marks are taken off its front one at a time.

There is no row of tokens, because what a word is depends on where it stands (`float` is a type or the name of a
value). Blanks and comments (`#` to the end of the line) may stand anywhere but inside `=>`. Letters are those of
ASCII.
"""

from __future__ import annotations

import re
import struct
from decimal import Decimal
from typing import Any, Literal, NamedTuple, NoReturn

from gesher.base.errors import FormatError

# Possessive (++, *+): what is taken is never given back, so that long stretches take no memory.
_BLANK = re.compile(r"(?:[ \t\n\v\f\r]++|#[^\n]*+)*+")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"-?[0-9]+(?:(\.)[0-9]*)?([eE][+-]?[0-9]*)?")
_SPECIAL = re.compile(r"-?(?:infinity|inf|nan)(?![A-Za-z0-9])", re.IGNORECASE)
_STRING = re.compile(r'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
# Rows of numbers.
_WHOLES = re.compile(r"\s*-?[0-9]{1,20}\s*(?:,\s*-?[0-9]{1,20}\s*)*+", re.ASCII)
_DECIMALS = re.compile(r"\s*-?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?\s*"
                       r"(?:,\s*-?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?\s*)*+", re.ASCII)
# What the fields of whole numbers may hold.
RANGES = {"int32_data": (-(1 << 31), (1 << 31) - 1), "int64_data": (-(1 << 63), (1 << 63) - 1),
          "uint64_data": (0, (1 << 64) - 1)}
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class Token(NamedTuple):
    """A literal: what it is, and its text (of a string, what it means)."""

    kind: Literal["int", "float", "string"]
    text: str


class Scanner:
    """A text and how far it was read."""

    def __init__(self, text: str | bytes):
        self.text = text.decode("utf-8", "surrogateescape") if isinstance(text, (bytes, bytearray)) else text
        self.pos = 0
        try:
            self.text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as e:
            self.fail("half a surrogate pair is no character", e.start)

    def fail(self, what: str, at: int | None = None) -> NoReturn:
        """Raise `FormatError` with line and column of `at` (by default, of what comes next), and the line itself."""
        if at is None:
            self.skip()
            at = self.pos
        begin = self.text.rfind("\n", 0, at) + 1
        end = self.text.find("\n", at)
        line = self.text[begin:end if end >= 0 else None]
        number, column = self.text.count("\n", 0, at) + 1, at - begin + 1
        # Of a long line, the part around the place.
        cut = max(0, at - begin - 60)
        shown = line[cut:cut + 100].replace("\t", " ")
        raise FormatError(what, place=f"line {number}, column {column}",
                          advice=f"{shown}\n  {' ' * (at - begin - cut)}^")

    def skip(self) -> None:
        """Go past blanks and comments."""
        match = _BLANK.match(self.text, self.pos)
        assert match is not None
        self.pos = match.end()

    def next(self) -> str:
        """The next character that counts, or "" at the end; it is not taken."""
        self.skip()
        return self.text[self.pos:self.pos + 1]

    def at_end(self) -> bool:
        return not self.next()

    def take(self, mark: str) -> bool:
        """Take the mark if it comes next."""
        self.skip()
        if self.text.startswith(mark, self.pos):
            self.pos += len(mark)
            return True
        return False

    def expect(self, mark: str) -> None:
        if not self.take(mark):
            self.fail(f"expected '{mark}', but found {self._found()}")

    def _found(self) -> str:
        word = self.peek_identifier() or self.next()
        return f"'{word}'" if word else "the end"

    # Words

    def peek_identifier(self) -> str:
        """The identifier that comes next, or ""; it is not taken."""
        self.skip()
        match = _IDENTIFIER.match(self.text, self.pos)
        return match.group() if match else ""

    def optional_identifier(self) -> str:
        word = self.peek_identifier()
        self.pos += len(word)
        return word

    def identifier(self, what: str = "a name") -> str:
        """An identifier, which must come."""
        word = self.optional_identifier()
        if not word:
            self.fail(f"expected {what}, but found {self._found()}")
        return word

    def quotable(self, what: str = "a name") -> str:
        """An identifier or a name in quotes."""
        return self.string() if self.next() == '"' else self.identifier(what)

    def optional_quotable(self) -> str:
        return self.string() if self.next() == '"' else self.optional_identifier()

    # Literals

    def special_float(self) -> bool:
        """Whether `inf`, `infinity` or `nan` comes next."""
        self.skip()
        return _SPECIAL.match(self.text, self.pos) is not None

    def literal(self) -> Token:
        """A number or a string, which must come."""
        if self.next() == '"':
            return Token("string", self.string())
        match = _SPECIAL.match(self.text, self.pos)
        if match is not None:
            self.pos = match.end()
            return Token("float", match.group())
        match = _NUMBER.match(self.text, self.pos)
        if match is None:
            self.fail(f"expected a value, but found {self._found()}")
        if match.group(2) and not match.group(2)[-1].isdigit():
            self.fail("the exponent of a number has no digits")
        self.pos = match.end()
        return Token("float" if match.group(1) or match.group(2) else "int", match.group())

    def string(self) -> str:
        """A string in double quotes; a backslash takes the next character as it is."""
        self.skip()
        match = _STRING.match(self.text, self.pos)
        if match is None:
            self.fail("this string has no end" if self.next() == '"' else
                      f"expected a string in quotes, but found {self._found()}")
        self.pos = match.end()
        inside = match.group(1)
        return _ESCAPE.sub(r"\1", inside) if "\\" in inside else inside

    def integer(self, low: int = -(1 << 63), high: int = (1 << 63) - 1) -> int:
        """A whole number in a range."""
        self.skip()
        at = self.pos
        token = self.literal()
        if token.kind != "int":
            self.fail(f"expected a whole number, but found {token.text!r}", at)
        return self.integer_of(token, at, low, high)

    def integer_of(self, token: Token, at: int, low: int = -(1 << 63), high: int = (1 << 63) - 1) -> int:
        # Python refuses to read endless digits, with an error of its own.
        value = int(token.text) if len(token.text) < 30 else 1 << 100
        if not low <= value <= high:
            self.fail(f"{token.text[:40]} is not between {low} and {high}", at)
        return value

    def numbers(self, field: str) -> list[Any] | None:
        """The numbers up to the brace that comes next, all at once; None where that must be done one by one."""
        end = self.text.find("}", self.pos)
        whole = _WHOLES if field not in ("float_data", "double_data") else _DECIMALS
        if end - self.pos < 256 or whole.fullmatch(self.text, self.pos, end) is None:
            return None
        parts = self.text[self.pos:end].split(",")
        if whole is _WHOLES:
            values: list[Any] = list(map(int, parts))
            low, high = RANGES[field]
            if min(values) < low or max(values) > high:
                return None
        else:
            values = list(map(float, parts))
            if field == "float_data":
                import numpy as np

                double = np.array(values)
                with np.errstate(over="ignore"):
                    single = double.astype(np.float32)
                    other = np.nextafter(single, np.where(double > single, np.float32(np.inf), np.float32(-np.inf)))
                if not np.isfinite(single).all():
                    return None
                values = single.tolist()
                for i in np.flatnonzero((double != single) & (double - single == other - double)):
                    values[i] = nearest_single(parts[i])
            elif float("inf") in map(abs, values):
                return None
        self.pos = end
        return values

    def single(self) -> float:
        """A number as the nearest one of 32 bits."""
        self.skip()
        at = self.pos
        return self.single_of(self.literal(), at)

    def single_of(self, token: Token, at: int) -> float:
        if token.kind == "string":
            self.fail(f"expected a number, but found {token.text!r}", at)
        try:
            return nearest_single(token.text)
        except OverflowError:
            self.fail(f"{token.text[:40]} is too large for a float of 32 bits", at)

    def double(self) -> float:
        """A number as the nearest one of 64 bits."""
        self.skip()
        at = self.pos
        token = self.literal()
        if token.kind == "string":
            self.fail(f"expected a number, but found {token.text!r}", at)
        value = float(token.text)
        if value in (float("inf"), float("-inf")) and token.text[-1].isdigit():
            self.fail(f"{token.text[:40]} is too large for a float of 64 bits", at)
        return value


def nearest_single(text: str) -> float:
    """The float of 32 bits that is nearest to a decimal number.

    Through a float of 64 bits this would round twice, and wrongly where the first rounding ends halfway between two
    floats of 32 bits.

    Raises:
        OverflowError: it is too large.

    >>> nearest_single("0.1")
    0.10000000149011612
    """
    double = float(text)
    if double in (float("inf"), float("-inf")) and text[-1:].isdigit():
        raise OverflowError(text)
    (bits,) = struct.unpack("<i", struct.pack("<f", double))
    (single,) = struct.unpack("<f", struct.pack("<i", bits))
    if double == single or double != double:
        return single
    # The neighbour on the other side of the double: away from zero has the larger bits.
    (other,) = struct.unpack("<f", struct.pack("<i", bits + (1 if abs(double) > abs(single) else -1)))
    if double - single != other - double:
        return single
    exact, halfway = Decimal(text), Decimal(double)
    if exact == halfway:
        return single
    return max(single, other) if exact > halfway else min(single, other)
