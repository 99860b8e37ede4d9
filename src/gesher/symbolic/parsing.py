"""From text to expressions, for what models carry in `dim_param` and people type.

Reads what `str` writes, and what other tools write: sympy's `floor(h/2 + 1/2)`, `ceiling`, `Max`, `Min`, `Mod`,
PyTorch's `FloorDiv(s0, 2)` and `s0**2`. Any other text is an opaque symbol of that name, so parsing never fails and
`str` gives such a name back untouched. What a reader would guess wrong:

- Names joined by hyphens (`batch-size`, `dim-1`) are opaque names, not subtractions; `seq - 1` with spaces is one.
- Text with spaces around it is opaque, as are `1.5`, `007`, `a/b` and `n//0`.
- So is what is too long to be written back (`printable`).
- The empty text is no name: it gives a new anonymous symbol each time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from .broadcasting import bcast
from .contradiction import Contradiction
from .dim import Dim, DimLike, fresh, sym
from .division import ceil_div, floordiv, mod, trunc_div
from .extremes import maximum, minimum
from .polynomial import content, from_terms, multiply, power, scaled, terms_of, total
from .printing import LONGEST_TEXT, plain, printable, quoted

_MOST_DIGITS = 2500
_MOST_BITS = 256

_TOKEN = re.compile(r" *(?:(?P<number>[0-9]+)|(?P<name>[^\W\d]\w*)|(?P<quoted>`(?:[^`]|``)+`)"
                    r"|(?P<mark>//|\*\*|[-+*/%(),]))")
_HYPHENATED = re.compile(r"[^\W\d]\w*(?:-\w+)+")


class _NotAnExpression(Exception):  # noqa: N818 - an answer, not an error
    """The text is an opaque name."""


class _Fraction:
    """A sum over a denominator: `floor(h/2 + 1/2)` has halves on the way. Long sums are added up once."""

    __slots__ = ("addends", "under")

    def __init__(self, addends: list[DimLike], under: DimLike = 1):
        self.addends = addends
        self.under = under

    @property
    def over(self) -> DimLike:
        if len(self.addends) != 1:
            self.addends = [total(self.addends)]
        return self.addends[0]

    def whole(self) -> DimLike:
        """The value where it is an integer expression."""
        x, y = self.over, self.under
        if isinstance(y, Dim):
            raise _NotAnExpression
        if y == 1:
            return x
        terms = terms_of(x)
        if content(terms) % y:
            raise _NotAnExpression
        return from_terms(scaled(terms, 1, y))


def _plus(x: _Fraction, y: _Fraction) -> _Fraction:
    if x.under == y.under:
        x.addends.extend(y.addends)
        return x
    return _Fraction([multiply(x.over, y.under), multiply(y.over, x.under)], multiply(x.under, y.under))


def _minus(x: _Fraction, y: _Fraction) -> _Fraction:
    return _plus(x, _opposite(y))


def _opposite(x: _Fraction) -> _Fraction:
    return _Fraction([multiply(-1, y) for y in x.addends], x.under)


def _times(x: _Fraction, y: _Fraction) -> _Fraction:
    return _Fraction([multiply(x.over, y.over)], multiply(x.under, y.under))


def _over(x: _Fraction, y: _Fraction) -> _Fraction:
    if y.over == 0:
        raise _NotAnExpression
    return _Fraction([multiply(x.over, y.under)], multiply(x.under, y.over))


def _quotient(x: _Fraction, y: _Fraction) -> _Fraction:
    return _floor(_over(x, y))


def _floor(x: _Fraction) -> _Fraction:
    return _Fraction([floordiv(x.over, x.under)])


def _ceiling(x: _Fraction) -> _Fraction:
    return _Fraction([ceil_div(x.over, x.under)])


def _power(x: _Fraction, y: _Fraction) -> _Fraction:
    base, exponent = x.whole(), y.whole()
    bits = max((abs(c).bit_length() for c in terms_of(base).values()), default=0)
    if isinstance(exponent, Dim) or exponent < 0 or exponent * bits > _MOST_BITS:
        raise _NotAnExpression
    return _Fraction([power(base, exponent)])


def _of_wholes(function: Callable[..., DimLike]) -> Callable[..., _Fraction]:
    return lambda *xs: _Fraction([function(*(x.whole() for x in xs))])


# Name: how many arguments (None: one or more), meaning.
_FUNCTIONS: dict[str, tuple[int | None, Callable[..., _Fraction]]] = {
    "floor":     (1, _floor),
    "ceil":      (1, _ceiling),
    "ceiling":   (1, _ceiling),
    "min":       (None, _of_wholes(minimum)),
    "Min":       (None, _of_wholes(minimum)),
    "max":       (None, _of_wholes(maximum)),
    "Max":       (None, _of_wholes(maximum)),
    "mod":       (2, _of_wholes(mod)),
    "Mod":       (2, _of_wholes(mod)),
    "PythonMod": (2, _of_wholes(mod)),
    "floordiv":  (2, _of_wholes(floordiv)),
    "FloorDiv":  (2, _of_wholes(floordiv)),
    "CleanDiv":  (2, _of_wholes(floordiv)),
    "ceil_div":  (2, _of_wholes(ceil_div)),
    "trunc_div": (2, _of_wholes(trunc_div)),
    "bcast":     (None, _of_wholes(bcast)),
}

# Operator: how strongly it binds, meaning. A sign binds more than a product and less than a power, as in Python.
_BINARY: dict[str, tuple[int, Callable[..., _Fraction]]] = {
    "+":  (1, _plus),
    "-":  (1, _minus),
    "*":  (2, _times),
    "/":  (2, _over),
    "//": (2, _quotient),
    "%":  (2, _of_wholes(mod)),
    "**": (4, _power),
}
_SIGN = 3


def parse(text: str, symbols: Mapping[str, Dim] | None = None) -> DimLike:
    """The expression that `text` says, or the symbol of that name.

    Args:
        text: an expression, an integer or any name.
        symbols: the symbols to use for names that it holds; others are `sym(name)`.

    Example:
        >>> parse("floor(h/2) + 1"), parse("batch size"), parse("16")
        (Dim('h//2 + 1'), Dim('batch size'), 16)
    """
    if not symbols:
        return _parse(text) if text else fresh("a dimension without a name")
    return _read(text, symbols) if text else fresh("a dimension without a name")


@lru_cache(maxsize=4096)
def _parse(text: str) -> DimLike:
    return _read(text, {})


def _read(text: str, symbols: Mapping[str, Dim]) -> DimLike:
    if plain(text):
        return _named(text, symbols)
    if len(text) <= LONGEST_TEXT and text == text.strip() and not _HYPHENATED.fullmatch(text):
        try:
            found = _Reader(text, symbols).read()
            if printable(found):
                return found
        except (_NotAnExpression, Contradiction, ZeroDivisionError):
            return _named(text, symbols)
    return _named(text, symbols)


def _named(name: str, symbols: Mapping[str, Dim]) -> Dim:
    found = symbols.get(name)
    return sym(name) if found is None else found


class _Reader:
    """Operator precedence with stacks of its own, so that nesting costs no recursion."""

    def __init__(self, text: str, symbols: Mapping[str, Dim]):
        self.text = text
        self.symbols = symbols
        self.values: list[_Fraction] = []
        # Waiting operators: (binding, operator). A parenthesis is (0, function name or ""), with its count of commas.
        self.waiting: list[tuple[int, str]] = []
        self.commas: list[int] = []

    def read(self) -> DimLike:
        operand_next = True
        at = 0
        opens = ""
        while at < len(self.text):
            token = _TOKEN.match(self.text, at)
            if token is None:
                raise _NotAnExpression
            at = token.end()
            kind = token.lastgroup
            word = token.group(kind or 0)
            if kind != "mark":
                if not operand_next:
                    raise _NotAnExpression
                if kind == "name" and self.text.startswith("(", at) and word in _FUNCTIONS:
                    opens = word
                    continue
                self.values.append(_Fraction([self._operand(kind or "", word)]))
                operand_next = False
            elif word == "(":
                if not operand_next:
                    raise _NotAnExpression
                self.waiting.append((0, opens))
                self.commas.append(0)
                opens = ""
            elif operand_next:
                if word != "-":
                    raise _NotAnExpression
                self.waiting.append((_SIGN, "sign"))
            elif word == ")":
                self._close()
            elif word == ",":
                self._apply_until(1)
                if not self.commas or not self.waiting[-1][1]:
                    raise _NotAnExpression
                self.commas[-1] += 1
                operand_next = True
            else:
                binding = _BINARY[word][0]
                # Powers group to the right.
                self._apply_until(binding + (word == "**"))
                self.waiting.append((binding, word))
                operand_next = True
        if operand_next:
            raise _NotAnExpression
        self._apply_until(1)
        if self.waiting:
            raise _NotAnExpression
        return self.values[0].whole()

    def _operand(self, kind: str, word: str) -> DimLike:
        if kind == "number":
            if len(word) > _MOST_DIGITS or (word[0] == "0" and word != "0"):
                raise _NotAnExpression
            return int(word)
        if kind == "name":
            if not plain(word):
                raise _NotAnExpression
            return _named(word, self.symbols)
        name = word[1:-1].replace("``", "`")
        # Quotes where none are needed are not how we write, so they belong to an opaque name.
        alone = len(word) == len(self.text)
        if plain(name) or quoted(name) != word or (alone and _reads_as_itself(name)):
            raise _NotAnExpression
        return _named(name, self.symbols)

    def _apply_until(self, binding: int) -> None:
        """Apply the waiting operators that bind at least so strongly."""
        while self.waiting and self.waiting[-1][0] >= binding:
            _, word = self.waiting.pop()
            y = self.values.pop()
            if word == "sign":
                self.values.append(_opposite(y))
            else:
                self.values.append(_BINARY[word][1](self.values.pop(), y))

    def _close(self) -> None:
        self._apply_until(1)
        if not self.waiting:
            raise _NotAnExpression
        _, name = self.waiting.pop()
        count = self.commas.pop() + 1
        if not name:
            return
        arity, meaning = _FUNCTIONS[name]
        if arity is not None and count != arity:
            raise _NotAnExpression
        args = self.values[-count:]
        del self.values[-count:]
        self.values.append(meaning(*args))


def _reads_as_itself(name: str) -> bool:
    found = parse(name)
    return isinstance(found, Dim) and found.op == "sym" and found.name == name
