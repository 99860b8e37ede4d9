"""Bags of words and of characters, from the text itself.

A text is cut into characters (com.microsoft's Tokenizer: ONNX's own domain has no word for that), each is looked up in
tables of what becomes of it (`characters.py`), and what comes out is joined again, pairs first. What no word of the
vocabulary has needs no letter of its own: all of it becomes one mark. Words, then, are what StringSplit finds; words
that are taken out (too short, stop words) close up, and n-grams of numbered words are counted by TfIdfVectorizer.

What a reader would guess wrong: whether something is a letter is asked of each character by a class of a regular
expression that lists them; engines do not agree on what `\\w` is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.base.errors import UnsupportedError
from gesher.ir import Value
from gesher.ops.build import Builder

from .characters import FINAL, MIDDLE, SIGMA, preprocessed, ranges, read_pattern, sigma_neighbours, spaces
from .encoding import listed
from .tables import Table
from .translation import Outputs, Translation, columnwise, inverts, refuse, translates

MS, ML = "com.microsoft", "ai.onnx.ml"
# StringSplit, StringConcat and RegexFullMatch came with it.
OPSET = 20
# Characters that share what becomes of them are listed as a class where they are more than this.
MANY = 40
_GONE, _UNKNOWN = -2, -1

columnwise("feature_extraction.CountVectorizer", "feature_extraction.TfidfVectorizer")


class Text:
    """The strings of one vectorizer as they are built."""

    def __init__(self, t: Translation, alphabet: set[str]):
        self.t, self.b, self.alphabet = t, t.b, alphabet
        free = (c for c in map(chr, range(0xE000, 0xF8FF)) if c not in alphabet)
        # A letter of no word, and one that spoils the word that it stands in.
        self.other, self.spoilt, self.gap = next(free), next(free), next(free)

    def strings(self, *values: str) -> Value:
        return self.b.constant(np.array(values, object).reshape(1, -1))

    def ints(self, *values: int) -> Value:
        return self.b.constant(np.array(values, np.int64))

    def matches(self, x: Value, pattern: str) -> Value:
        return self.b.RegexFullMatch(x, pattern=pattern)

    def cut(self, text: Value) -> Value:
        """(rows,) as characters (rows, longest), "" behind the end; at the least one column, of "" only."""
        characters = self.b.op("Tokenizer", text, domain=MS, mark=0, pad_value="", separators=[""], mincharnum=1)
        return self.b.Concat(characters, self.blank(text), axis=1)

    def blank(self, text: Value) -> Value:
        """A column of "" for (rows,)."""
        rows = self.b.Shape(text)
        return self.b.Expand(self.strings(""), self.b.Concat(rows, self.ints(1), axis=0))

    def join(self, parts: Value, text: Value) -> Value:
        """(rows, n) strings as (rows,): neighbours in pairs, then pairs of those, until one is left."""
        b, blank = self.b, self.blank(text)
        going = b.Greater(self.width(b, parts), self.ints(1))
        inner: Builder = b.subgraph("join", [("round", dtypes.INT64, []), ("going", dtypes.BOOL, []),
                                             ("parts", dtypes.STRING, [None, None])])
        held = inner.graph.inputs[2]
        one, two, end = self.ints(1), self.ints(2), self.ints(np.iinfo(np.int64).max)
        even = inner.Slice(held, self.ints(0), end, one, two)
        odd = inner.Concat(inner.Slice(held, one, end, one, two), blank, axis=1)
        odd = inner.Slice(odd, self.ints(0), self.width(inner, even), one)
        joined = inner.StringConcat(even, odd)
        flag = inner.Greater(self.width(inner, joined), one)
        inner.output(inner.Reshape(flag, inner.constant(np.array([], np.int64))))
        inner.output(joined)
        made = b.op("Loop", None, b.Reshape(going, b.constant(np.array([], np.int64))), parts, body=inner)
        return b.Reshape(made, self.ints(-1))

    @staticmethod
    def width(b: Builder, x: Value) -> Value:
        """The number of columns (1,)."""
        return b.Slice(b.Shape(x), b.constant(np.array([1])), b.constant(np.array([2])), b.constant(np.array([0])))

    def images(self, model: Any, piece: Callable[[str], str], marks: dict[str, frozenset[str]], runs: dict[str, int]
               ) -> tuple[dict[str, str], dict[str, frozenset[str]]]:
        """What becomes of characters: those of the alphabet and those that change one by one, others by sets.

        Args:
            piece: what becomes of a character when it is neither lowered nor stripped.
            marks: the sets of those that become a mark each, as `piece` says.
            runs: how many of a mark beside each other tell something.
        """
        changed = preprocessed(bool(model.lowercase), model.strip_accents or "")
        single: dict[str, str] = {}
        sets: dict[str, set[str]] = {}
        known: dict[str, str] = {}
        for c, now in changed.items():
            made = known.get(now)
            if made is None:
                made = "".join(map(piece, now))
                for mark, most in runs.items():
                    while mark * (most + 1) in made:
                        made = made.replace(mark * (most + 1), mark * most)
                known[now] = made
            sets.setdefault(made, set()).add(c)
        for c in self.alphabet - changed.keys():
            single[c] = piece(c)
        for made in [m for m, cs in sets.items() if len(cs) <= MANY]:
            single |= dict.fromkeys(sets.pop(made), made)
        named = frozenset({*changed, *self.alphabet})
        whole = {m: cs - named for m, cs in marks.items()}
        return single, whole | {m: frozenset(cs) | whole.get(m, frozenset()) for m, cs in sets.items()}

    def look_up(self, characters: Value, single: dict[str, str], sets: dict[str, frozenset[str]],
                default: str) -> Value:
        """Characters with what becomes of them; those of no table become `default`, "" stays."""
        table = {"": ""} | single
        made = self.b.LabelEncoder(characters, domain=ML, keys_strings=list(table),
                                   values_strings=list(table.values()), default_string=default)
        for image, members in sorted(sets.items()):
            if members and image != default:
                made = self.b.Where(self.matches(characters, ranges(members)), self.strings(image), made)
        return made

    def final_sigmas(self, characters: Value) -> Value:
        """True for each capital sigma (rows, n) that ends a word: something cased before it, and not after it."""
        b, (cased, past) = self.b, sigma_neighbours()
        sigma = b.Equal(characters, self.strings(SIGMA))
        has_case = self.matches(characters, ranges(cased))
        ends = b.Equal(characters, self.strings(""))
        counts = b.Not(b.Or(self.matches(characters, ranges(past)), ends))
        # What counts stands in its order on a row of its own, after a place for the beginning.
        place = b.CumSum(b.Cast(counts, to=dtypes.INT64.code), b.constant(np.array(1, np.int64)))
        room = b.Add(self.width(b, characters), self.ints(3))
        empty = b.Expand(b.constant(np.array([[0]], np.int64)), b.Concat(self.height(characters), room, axis=0))
        # The last place takes what does not count, and nobody looks there.
        row = b.ScatterElements(empty, b.Where(counts, place, b.Sub(room, self.ints(1))),
                                b.Cast(b.And(has_case, counts), to=dtypes.INT64.code), axis=1)
        before = b.GatherElements(row, b.Max(b.Sub(place, self.ints(1)), self.ints(0)), axis=1)
        after = b.GatherElements(row, b.Add(place, self.ints(1)), axis=1)
        return b.And(sigma, b.And(b.Equal(before, self.ints(1)), b.Equal(after, self.ints(0))))

    def height(self, x: Value) -> Value:
        """The number of rows (1,)."""
        return self.b.Slice(self.b.Shape(x), self.ints(0), self.ints(1), self.ints(0))

    def closed_up(self, numbers: Value) -> Value:
        """(rows, n) without the gone ones: what is behind them moves up, and unknown ones fill the end."""
        b = self.b
        stays = b.Not(b.Equal(numbers, self.ints(_GONE)))
        place = b.Sub(b.CumSum(b.Cast(stays, to=dtypes.INT64.code), b.constant(np.array(1, np.int64))), self.ints(1))
        width = self.width(b, numbers)
        end = b.Expand(b.constant(np.array([[_UNKNOWN]], np.int64)),
                       b.Concat(self.height(numbers), b.Add(width, self.ints(1)), axis=0))
        kept = b.Where(stays, numbers, self.ints(_UNKNOWN))
        return b.ScatterElements(end, b.Where(stays, place, width), kept, axis=1)

    def counts(self, numbers: Value, grams: dict[tuple[int, ...], int], columns: int) -> Value:
        """How often each n-gram of numbers (rows, n) occurs, each in its column."""
        if not grams:
            return self.b.Expand(self.b.constant(np.zeros((1, 1), np.float32)),
                                 self.b.Concat(self.height(numbers), self.ints(columns), axis=0))
        longest = max(map(len, grams))
        pool: list[int] = []
        starts, places = [], []
        for n in range(1, longest + 1):
            starts.append(len(pool))
            for gram, column in grams.items():
                if len(gram) == n:
                    pool += gram
                    places.append(column)
        made = self.b.TfIdfVectorizer(numbers, mode="TF", min_gram_length=min(map(len, grams)),
                                      max_gram_length=longest, max_skip_count=0, ngram_counts=starts,
                                      ngram_indexes=places, pool_int64s=pool)
        lacking = columns - 1 - max(places)
        return self.b.Pad(made, self.ints(0, 0, 0, lacking)) if lacking > 0 else made


def refuse_custom(model: Any) -> None:
    """Tell of what a vectorizer does by Python of its own.

    Raises:
        UnsupportedError: it does.
    """
    for name in ("preprocessor", "tokenizer"):
        if getattr(model, name) is not None:
            raise refuse(model, f" with a {name} of its own", "its Python cannot be read")
    if callable(model.analyzer):
        raise refuse(model, " with an analyzer of its own", "its Python cannot be read")
    if callable(model.strip_accents):
        raise refuse(model, " with strip_accents of its own", "'ascii' and 'unicode' have")
    if model.input != "content":
        raise refuse(model, f"(input={model.input!r})", "give texts, not files")


def flat_texts(t: Translation, model: Any, x: Value | Table) -> Value:
    """The texts (rows,).

    Raises:
        UnsupportedError: they are no strings.
    """
    value = x.value(0) if isinstance(x, Table) and len(x.columns) == 1 else x
    if isinstance(value, Table) or t.b.dtype(value) is not dtypes.STRING:
        raise refuse(model, " on anything but one column of strings", "give an example of texts")
    return value if len(t.b.shape(value) or ()) == 1 else t.b.Reshape(value, t.axes(-1))


def _pieces(text: Text, model: Any, source: Value, piece: Callable[[str], str], marks: dict[str, frozenset[str]],
            runs: dict[str, int], default: str) -> Value:
    """The texts (rows,) with every character's image in its place; the arguments are those of `Text.images`."""
    characters = text.cut(source)
    made = text.look_up(characters, *text.images(model, piece, marks, runs), default)
    # Which small letter a capital sigma becomes hangs on where it stands.
    if model.lowercase and model.strip_accents != "ascii" and piece(MIDDLE) != piece(FINAL):
        made = text.b.Where(text.final_sigmas(characters), text.strings(piece(FINAL)), made)
    return text.join(made, source)


def _words(t: Translation, model: Any, source: Value) -> Value:
    """Counts of words' n-grams."""
    runs = read_pattern(model.token_pattern, type(model).__name__)
    low, high = model.ngram_range
    if " " in runs.members and high > 1:
        raise refuse(model, f"(token_pattern={model.token_pattern!r}) of words with spaces in them, in n-grams",
                     "n-grams of one word have a way")
    stop = model.get_stop_words() or frozenset()
    grams: dict[tuple[str, ...], int] = {}
    for entry, column in model.vocabulary_.items():
        parts = tuple(entry.split(" ")) if high > 1 else (entry,)
        # What no text can give is never counted.
        if low <= len(parts) <= high and all(parts):
            grams[parts] = int(column)
    stop = frozenset(w for w in stop if w)
    known = {w for parts in grams for w in parts} | stop
    text = Text(t, set().union(*map(set, known)))

    def piece(c: str) -> str:
        if c in runs.members:
            return c if c in text.alphabet else text.other
        return text.spoilt if c in runs.words else text.gap

    b = text.b
    whole = _pieces(text, model, source, piece, {text.other: runs.members, text.spoilt: runs.words},
                    {text.other: runs.least, text.gap: 1}, text.gap)
    tokens, _ = b.op("StringSplit", whole, delimiter=text.gap, outputs=2)
    tokens = b.Concat(tokens, text.blank(source), axis=1)
    order = sorted(known - stop)
    keys = ["", *sorted(stop), *order]
    numbers = b.LabelEncoder(tokens, domain=ML, keys_strings=keys, default_int64=_UNKNOWN,
                             values_int64s=[_GONE] * (1 + len(stop)) + list(range(len(order))))
    drop = None
    if runs.least > 1:
        drop = text.matches(tokens, f"(?s).{{0,{runs.least - 1}}}")
    if runs.words:
        spoilt = text.matches(tokens, f"(?s).*\\x{{{ord(text.spoilt):X}}}.*")
        drop = spoilt if drop is None else b.Or(drop, spoilt)
    if drop is not None:
        numbers = b.Where(drop, text.ints(_GONE), numbers)
    place = {w: i for i, w in enumerate(order)}
    said = {tuple(place[w] for w in parts): column for parts, column in grams.items()
            if all(w in place for w in parts)}
    if high > 1:
        numbers = text.closed_up(numbers)
    return text.counts(numbers, said, len(model.vocabulary_))


def _of_characters(text: Text, model: Any, source: Value) -> Value:
    """The texts (rows,) before they are cut into n-grams; white space that is in no n-gram becomes `gap`."""
    white = spaces()

    def piece(c: str) -> str:
        if c in text.alphabet:
            return c
        return text.gap if c in white else text.other

    return _pieces(text, model, source, piece, {text.gap: white}, {text.other: 1}, text.other)


def _numbered(text: Text, characters: Value, alphabet: Collection[str]) -> tuple[Value, dict[str, int]]:
    place = {c: i for i, c in enumerate(sorted(alphabet))}
    numbers = text.b.LabelEncoder(characters, domain=ML, keys_strings=["", *place], default_int64=_UNKNOWN,
                                  values_int64s=[_GONE, *place.values()])
    return numbers, place


def _chars(t: Translation, model: Any, source: Value) -> Value:
    """Counts of n-grams of characters; white space of two characters and more is one space."""
    low, high = model.ngram_range
    entries = {e: int(c) for e, c in model.vocabulary_.items() if low <= len(e) <= high}
    text = Text(t, set().union(*map(set, entries)))
    b, white = t.b, spaces()
    whole = _of_characters(text, model, source)
    characters = text.cut(whole)
    numbers, place = _numbered(text, characters, text.alphabet)
    blank = text.matches(characters, ranges([*white, text.gap]))
    width = text.width(b, characters)
    nothing = b.Cast(b.Mul(b.Slice(numbers, text.ints(0), text.ints(1), text.ints(1)), text.ints(0)),
                     to=dtypes.BOOL.code)
    before = b.Slice(b.Concat(nothing, blank, axis=1), text.ints(0), width, text.ints(1))
    after = b.Slice(b.Concat(blank, nothing, axis=1), text.ints(1), b.Add(width, text.ints(1)), text.ints(1))
    first = b.And(blank, b.And(b.Not(before), after))
    numbers = b.Where(first, text.ints(place.get(" ", _UNKNOWN)), numbers)
    numbers = b.Where(b.And(blank, before), text.ints(_GONE), numbers)
    grams = {tuple(place[c] for c in e): column for e, column in entries.items()}
    return text.counts(text.closed_up(numbers), grams, len(model.vocabulary_))


def _chars_of_words(t: Translation, model: Any, source: Value) -> Value:
    """Counts of n-grams of characters within words, which have a space at either end."""
    low, high = model.ngram_range
    white = spaces()

    def possible(e: str) -> bool:
        inner = e[1:-1]
        if any(c in white for c in inner) or any(c in white and c != " " for c in e):
            return False
        # A word that is shorter than all n-grams is one by itself.
        return low <= len(e) <= high or (2 < len(e) < low and e[0] == e[-1] == " ")

    entries = {e: int(c) for e, c in model.vocabulary_.items() if possible(e)}
    text = Text(t, set().union(*map(set, entries)))
    text.alphabet.discard(" ")
    b = t.b
    whole = _of_characters(text, model, source)
    tokens, _ = b.op("StringSplit", whole, delimiter=text.gap, outputs=2)
    tokens = b.Concat(tokens, text.blank(source), axis=1)
    padded = b.StringConcat(b.StringConcat(text.strings(" "), tokens), text.strings(" " + text.other))
    padded = b.Where(b.Equal(tokens, text.strings("")), text.strings(""), padded)
    numbers, place = _numbered(text, text.cut(text.join(padded, source)), {*text.alphabet, " "})
    grams = {tuple(place[c] for c in e): column for e, column in entries.items()}
    return text.counts(numbers, grams, len(model.vocabulary_))


def _counted(t: Translation, model: Any, x: Value | Table) -> Value:
    """Counts (rows, vocabulary), as numbers of the model's type."""
    refuse_custom(model)
    if not hasattr(model, "vocabulary_"):
        model._validate_vocabulary()
    if not hasattr(model, "vocabulary_"):
        raise refuse(model, " that is not fitted", "call fit before exporting")
    if t.b.opsets[""] < OPSET:
        raise UnsupportedError(f"texts need opset {OPSET}, where StringSplit came", who="sklearn",
                               advice="ask for a newer opset")
    source = flat_texts(t, model, x)
    how = {"word": _words, "char": _chars, "char_wb": _chars_of_words}[model.analyzer]
    made = t.b.Cast(how(t, model, source), to=t.dtype.code)
    return t.b.Min(made, t.constant(1)) if model.binary else made


@translates("feature_extraction.CountVectorizer")
def _(t: Translation, model: Any, x: Any) -> Outputs:
    return Outputs(transformed=_counted(t, model, x))


@translates("feature_extraction.TfidfVectorizer")
def _(t: Translation, model: Any, x: Any) -> Outputs:
    return t.apply(model._tfidf, _counted(t, model, x))


@inverts("feature_extraction.CountVectorizer", "feature_extraction.TfidfVectorizer")
def _(t: Translation, model: Any, x: Any) -> Value:
    """The words that each row has some of, by their places: a sequence of arrays, one for each row."""
    words = sorted(model.vocabulary_, key=model.vocabulary_.__getitem__)
    return listed(t, t.matrix(x, model), t.b.constant(np.array(words, object)))
