"""Features by their hashes: words, strings and names go to the column that MurmurHash3 says, known or not.

Where a vocabulary counts (`text.py`) only its own words need letters. Here every word counts, so that each character
keeps what becomes of it; words are cut by a character that is in none of them. com.microsoft's MurmurHash3 gives the
numbers that scikit-learn's own has. A matrix is dense in ONNX: of 2**20 columns a row takes 4 or 8 MB.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.ir import Value

from .characters import FINAL, MIDDLE, every_character, preprocessed, ranges, read_pattern, spaces
from .preprocessing import normalized
from .tables import Table
from .text import MANY, ML, MS, OPSET, Text, flat_texts, refuse_custom
from .translation import Outputs, Translation, columnwise, refuse, translates

columnwise("feature_extraction.HashingVectorizer", "feature_extraction.FeatureHasher")


class Hashes:
    """Columns and signs of features, gathered to be summed up at once."""

    def __init__(self, t: Translation, features: int, alternates: bool):
        self.t, self.b, self.features, self.alternates = t, t.b, features, alternates
        self.at: list[Value] = []
        self.values: list[Value] = []

    def add(self, strings: Value, values: Value) -> None:
        """Features (rows, n) by their names, each with its value; those of value 0 change nothing."""
        b = self.b
        hashes = b.Cast(b.op("MurmurHash3", strings, domain=MS, seed=0, positive=0), to=dtypes.INT64.code)
        # The least of 32-bit numbers has no counterpart: scikit-learn has a place of its own for it.
        least, instead = b.constant(np.array(-2**31)), b.constant(np.array((2**31 - self.features) % self.features))
        place = b.Mod(b.Abs(hashes), b.constant(np.array(self.features)))
        self.at.append(b.Where(b.Equal(hashes, least), instead, place))
        if self.alternates:
            values = b.Where(b.Less(hashes, b.constant(np.array(0))), b.Neg(values), values)
        self.values.append(values)

    def sums(self) -> Value:
        """(rows, features): what the features of each column come to."""
        at, values = self.t.join(self.at), self.t.join(self.values)
        return self.b.ScatterElements(self.room(at), at, values, axis=1, reduction="add")

    def marks(self) -> Value:
        """(rows, features): 1 where a column has a feature of any value but 0."""
        at, values = self.t.join(self.at), self.t.join(self.values)
        there = self.t.number(self.b.Not(self.b.Equal(values, self.t.constant(0))))
        return self.b.ScatterElements(self.room(at), at, there, axis=1, reduction="max")

    def room(self, at: Value) -> Value:
        height = self.b.Slice(self.b.Shape(at), self.t.axes(0), self.t.axes(1), self.t.axes(0))
        return self.b.Expand(self.t.constant([[0]]), self.b.Concat(height, self.t.axes(self.features), axis=0))


def _characters(text: Text, model: Any, source: Value, piece: Callable[[str], str],
                marks: dict[str, frozenset[str]]) -> Value:
    """The texts (rows,) with what becomes of every character: its lower case, what is left of it without accents, and
    of that what `piece` says; `marks` are the sets of characters that `piece` makes one mark of each."""
    b = text.b
    characters = text.cut(source)
    changed = preprocessed(bool(model.lowercase), model.strip_accents or "")
    known = {now: "".join(map(piece, now)) for now in set(changed.values())}
    sharing: dict[str, set[str]] = {}
    for c, now in changed.items():
        sharing.setdefault(known[now], set()).add(c)
    sets = {image: frozenset(sharing.pop(image)) for image, cs in list(sharing.items()) if len(cs) > MANY}
    for mark, members in marks.items():
        sets[mark] = sets.get(mark, frozenset()) | (members - changed.keys())
    made = characters
    for image, members in sorted(sets.items()):
        if members:
            made = b.Where(text.matches(characters, ranges(members)), text.strings(image), made)
    single = {c: image for image, cs in sharing.items() for c in cs}
    if single:
        at = b.LabelEncoder(characters, domain=ML, keys_strings=list(single), values_int64s=list(range(len(single))),
                            default_int64=-1)
        image = b.Gather(b.constant(np.array(list(single.values()), object)), b.Max(at, text.ints(0)), axis=0)
        made = b.Where(b.Less(at, text.ints(0)), made, image)
    if model.lowercase and model.strip_accents != "ascii" and piece(MIDDLE) != piece(FINAL):
        made = b.Where(text.final_sigmas(characters), text.strings(piece(FINAL)), made)
    return text.join(made, source)


def _grams(text: Text, tokens: Value, there: Value, low: int, high: int, between: str) -> list[tuple[Value, Value]]:
    """The strings of neighbours in each row (rows, n), and which of them are any: those of `there` (rows, n) alone."""
    b, made = text.b, []
    end = text.ints(np.iinfo(np.int64).max)
    gram, real = tokens, there
    for n in range(1, high + 1):
        if n > 1:
            # The last ones have nobody behind them.
            all_but_one = b.Sub(text.width(b, gram), text.ints(1))
            gram = b.Slice(gram, text.ints(0), b.Max(all_but_one, text.ints(0)), text.ints(1))
            real = b.Slice(real, text.ints(0), b.Max(all_but_one, text.ints(0)), text.ints(1))
            behind = b.Slice(tokens, text.ints(n - 1), end, text.ints(1))
            real = b.And(real, b.Slice(there, text.ints(n - 1), end, text.ints(1)))
            gram = b.StringConcat(b.StringConcat(gram, text.strings(between)) if between else gram, behind)
        if n >= low:
            made.append((gram, real))
    return made


def _close_up(text: Text, tokens: Value, stays: Value) -> tuple[Value, Value]:
    """(rows, n) strings without those that do not stay: what is behind them moves up; and which places are filled."""
    b = text.b
    place = b.Sub(b.CumSum(b.Cast(stays, to=dtypes.INT64.code), b.constant(np.array(1, np.int64))), text.ints(1))
    width = text.width(b, tokens)
    number = b.Sub(b.CumSum(b.Add(b.Mul(place, text.ints(0)), text.ints(1)), b.constant(np.array(1, np.int64))),
                   text.ints(1))
    room = b.Expand(b.constant(np.array([[-1]], np.int64)),
                    b.Concat(text.height(tokens), b.Add(width, text.ints(1)), axis=0))
    filled = b.ScatterElements(room, b.Where(stays, place, width), b.Where(stays, number, text.ints(-1)), axis=1)
    filled = b.Slice(filled, text.ints(0), width, text.ints(1))
    found = b.GatherElements(tokens, b.Max(filled, text.ints(0)), axis=1)
    return found, b.GreaterOrEqual(filled, text.ints(0))


def _words(t: Translation, model: Any, source: Value) -> list[tuple[Value, Value]]:
    runs = read_pattern(model.token_pattern, type(model).__name__)
    outside = [c for c in map(chr, range(9, 0x3000)) if c not in runs.members and c not in runs.words]
    if not outside:
        raise refuse(model, f"(token_pattern={model.token_pattern!r}) of words of any character",
                     "patterns that leave one out have")
    # No word has it, whatever the text is.
    gap = outside[0]
    spoilt = next(iter(sorted(runs.words)), gap)
    text = Text(t, set())
    b = t.b
    marks = {gap: frozenset(every_character()) - runs.members - runs.words}
    whole = _characters(text, model, source, lambda c: c if c in runs.members else spoilt if c in runs.words else gap,
                        marks | ({spoilt: runs.words} if runs.words else {}))
    tokens, _ = b.op("StringSplit", whole, delimiter=gap, outputs=2)
    tokens = b.Concat(tokens, text.blank(source), axis=1)
    gone = text.matches(tokens, f"(?s).{{0,{runs.least - 1}}}")
    if runs.words:
        gone = b.Or(gone, text.matches(tokens, f"(?s).*\\x{{{ord(spoilt):X}}}.*"))
    stop = sorted(w for w in model.get_stop_words() or () if w)
    if stop:
        known = b.LabelEncoder(tokens, domain=ML, keys_strings=stop, values_int64s=[1] * len(stop), default_int64=0)
        gone = b.Or(gone, b.Equal(known, text.ints(1)))
    low, high = model.ngram_range
    there = b.Not(gone)
    if high > 1:
        tokens, there = _close_up(text, tokens, there)
    return _grams(text, tokens, there, low, high, " ")


def _chars(t: Translation, model: Any, source: Value) -> list[tuple[Value, Value]]:
    """White space of two characters and more is one space."""
    text, b = Text(t, set()), t.b
    characters = text.cut(_characters(text, model, source, lambda c: c, {}))
    blank, width = text.matches(characters, ranges(spaces())), text.width(b, characters)
    nothing = b.Equal(text.blank(source), text.strings("no"))
    before = b.Slice(b.Concat(nothing, blank, axis=1), text.ints(0), width, text.ints(1))
    after = b.Slice(b.Concat(blank, nothing, axis=1), text.ints(1), b.Add(width, text.ints(1)), text.ints(1))
    first = b.And(blank, b.And(b.Not(before), after))
    characters = b.Where(first, text.strings(" "), characters)
    gone = b.Or(b.And(blank, before), b.Equal(characters, text.strings("")))
    low, high = model.ngram_range
    return _grams(text, *_close_up(text, characters, b.Not(gone)), low, high, "")


def _chars_of_words(t: Translation, model: Any, source: Value) -> list[tuple[Value, Value]]:
    """Words have a space at either end; one that is shorter than all n-grams is one by itself."""
    text, b = Text(t, set()), t.b
    gap, (low, high) = "\n", model.ngram_range
    whole = _characters(text, model, source, lambda c: gap if c in spaces() else c, {gap: spaces()})
    tokens, _ = b.op("StringSplit", whole, delimiter=gap, outputs=2)
    tokens = b.Concat(tokens, text.blank(source), axis=1)
    none = b.Equal(tokens, text.strings(""))
    padded = b.StringConcat(b.StringConcat(text.strings(" "), tokens), text.strings(" "))
    joined = text.join(b.Where(none, text.strings(""), b.StringConcat(padded, text.strings(gap))), source)
    characters = text.cut(joined)
    there = b.Not(b.Or(b.Equal(characters, text.strings("")), b.Equal(characters, text.strings(gap))))
    made = _grams(text, characters, there, low, high, "")
    if low > 3:
        short = text.matches(padded, f"(?s).{{0,{low - 1}}}")
        made.append((padded, b.And(short, b.Not(none))))
    return made


@translates("feature_extraction.HashingVectorizer")
def _(t: Translation, model: Any, x: Any) -> Outputs:
    refuse_custom(model)
    if t.b.opsets[""] < OPSET:
        raise UnsupportedError(f"texts need opset {OPSET}, where StringSplit came", who="sklearn",
                               advice="ask for a newer opset")
    source = flat_texts(t, model, x)
    how = {"word": _words, "char": _chars, "char_wb": _chars_of_words}[model.analyzer]
    hashes = Hashes(t, model.n_features, model.alternate_sign)
    for strings, there in how(t, model, source):
        hashes.add(strings, t.number(there))
    made = hashes.marks() if model.binary else hashes.sums()
    return Outputs(transformed=made if model.norm is None else normalized(t, made, model.norm))


@translates("feature_extraction.FeatureHasher")
def _(t: Translation, model: Any, x: Value | Table) -> Outputs:
    """Strings each count 1; a named number counts itself, a named string 1 under its name and itself."""
    hashes = Hashes(t, model.n_features, model.alternate_sign)
    if model.input_type == "string":
        strings = t.join(x.values()) if isinstance(x, Table) else x
        if t.b.dtype(strings) is not dtypes.STRING:
            raise refuse(model, "(input_type='string') on anything but strings", "give an example of strings")
        hashes.add(strings, t.b.Expand(t.constant([[1]]), t.b.Shape(strings)))
        return Outputs(transformed=hashes.sums())
    for column, name in zip(t.table(x).values(), t.table(x).names):
        if t.b.dtype(column) is dtypes.STRING:
            whole = t.b.StringConcat(t.b.constant(np.array([[f"{name}="]], object)), column)
            hashes.add(whole, t.number(t.b.Not(t.b.Equal(column, t.b.constant(np.array([[""]], object))))))
        else:
            number = t.matrix(column)
            same = t.b.Expand(t.b.constant(np.array([[name]], object)), t.b.Shape(number))
            hashes.add(same, number)
    return Outputs(transformed=hashes.sums())
