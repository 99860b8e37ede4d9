"""Writing a model back so that every byte stands that its editor did not mean to change.

A file says more than a graph does: fields nobody knows, explicit defaults, an order of its own. So a changed model is
not written anew but merged from three sides, as a version control system merges: what the file says (`old`), what the
graph had to say of that file when nothing was changed (`base`), and what the graph says now (`new`). Where base and
new are the same, nothing was edited, and the file's own bytes are written, whatever they are. Where they differ, that
is the edit.

No flag says "unchanged" anywhere: a flag may be wrong, a comparison may not.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

from gesher.base.errors import GesherError

from .encode import Piece, encode_field, encode_pieces, joined, record, too_deep
from .messages import Field, Message
from .wire import DEPTH_LIMIT, Numbers, Source, records

# Views longer than this are first compared by where they lie.
_LARGE = 4096
_STRIDE = 1 << 24


def same(a: Message, b: Message) -> bool:
    """True where two messages say the same in every field of the table; floats by their bits."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    for f in a.fields:
        x, y = getattr(a, f.name), getattr(b, f.name)
        # Most fields are absent in both; asking the same question here saves most of the calls.
        if x is not y and not same_field(f, x, y):
            return False
    return True


def same_field(f: Field, a: Any, b: Any) -> bool:
    """True where two values of a field are the same; an absent one is only the same as an absent one."""
    if a is b:
        return True
    if a is None or b is None:
        return False
    if f.packed:
        return _same_numbers(a, b)
    if f.repeated and not f.is_message:
        if len(a) != len(b):
            return False
        if f.wire in (1, 5):
            return struct.pack(f"<{len(a)}d", *a) == struct.pack(f"<{len(b)}d", *b)
        if f.kind != "bytes":
            return list(a) == list(b)
    if f.repeated:
        return len(a) == len(b) and all(_same_one(f, x, y) for x, y in zip(a, b))
    return _same_one(f, a, b)


def _same_one(f: Field, a: Any, b: Any) -> bool:
    if f.is_message:
        return same(a, b)
    if f.kind in ("float", "double"):
        return a == b != 0 or struct.pack("<d", a) == struct.pack("<d", b)
    if f.kind == "bytes":
        return same_bytes(a, b)
    return bool(a == b)


def _same_numbers(a: Any, b: Any) -> bool:
    if isinstance(a, Numbers) and isinstance(b, Numbers) and same_bytes(a.data, b.data):
        return True
    if len(a) != len(b):
        return False
    import numpy as np

    x, y = np.asarray(a), np.asarray(b)
    return bool(np.array_equal(x, y) if x.dtype.kind != "f" else x.tobytes() == y.astype(x.dtype).tobytes())


def same_bytes(a: Any, b: Any) -> bool:
    """True where two rows of bytes are equal; views of the same place are not read."""
    a = a.encode("utf-8", "surrogateescape") if isinstance(a, str) else a
    b = b.encode("utf-8", "surrogateescape") if isinstance(b, str) else b
    if isinstance(a, bytes) and isinstance(b, bytes):
        return a == b
    a, b = memoryview(a).cast("B"), memoryview(b).cast("B")
    if len(a) != len(b):
        return False
    if len(a) <= _LARGE:
        return bytes(a) == bytes(b)
    import numpy as np

    if np.frombuffer(a, np.uint8).ctypes.data == np.frombuffer(b, np.uint8).ctypes.data:
        return True
    return all(bytes(a[i:i + _STRIDE]) == bytes(b[i:i + _STRIDE]) for i in range(0, len(a), _STRIDE))


class Words:
    """What a file says and what the graph made of it: `old` and `base`, looked up by where a message starts."""

    def __init__(self, old: Message, base: Message):
        self.root = (old, base)
        self._pairs: dict[int, tuple[Message, Message]] | None = None

    def at(self, start: int) -> tuple[Message, Message] | None:
        """The pair of the message whose payload starts at `start`, if the graph has kept it."""
        if start == self.root[0].at:
            return self.root
        if self._pairs is None:
            bases = {m.origin[1]: m for m in _walk(self.root[1]) if m.origin is not None}
            self._pairs = {m.at: (m, bases[m.at]) for m in _walk(self.root[0]) if m.at in bases}
        return self._pairs.get(start)


def _walk(root: Message) -> Iterator[Message]:
    pending = [root]
    while pending:
        m = pending.pop()
        yield m
        for f in m.fields:
            if f.is_message:
                value = getattr(m, f.name)
                if value is not None:
                    pending.extend(value if f.repeated else (value,))


class Merger:
    """Merges messages with the files that their parts came from.

    Args:
        words: gives, for a source, what it says and what the graph makes of it untouched.
    """

    def __init__(self, words: Callable[[Source], Words]):
        self._make = words
        self._words: dict[int, Words] = {}

    def pieces(self, new: Message, depth: int = 0) -> list[Piece]:
        """The bytes of `new`, as far as possible those of the file."""
        if depth > DEPTH_LIMIT:
            raise too_deep()
        found = self._of_origin(new)
        if found is None:
            return self._fresh(new, depth)
        source, old, base = found
        return self._merged(source, old, base, new, depth)

    def untouched(self, new: Message) -> Piece | None:
        """The bytes that `new` came from, if nothing in it was edited."""
        found = self._of_origin(new)
        if found is None or found[1].until < 0 or not same(found[2], new):
            return None
        source, old, _ = found
        return source.view[old.at:old.until]

    def _of_origin(self, m: Message) -> tuple[Source, Message, Message] | None:
        source, start = m.origin or (None, -1)
        if source is None:
            return None
        words = self._words.get(id(source))
        if words is None:
            words = self._words[id(source)] = self._make(source)
        pair = words.at(start)
        if pair is None or type(pair[0]) is not type(m):
            return None
        return source, *pair

    def _fresh(self, new: Message, depth: int) -> list[Piece]:
        """A message of which no file knows; its parts may come from one all the same."""
        out: list[Piece] = []
        for f, value in new.written():
            out += self._field(f, value, depth)
        return joined([*out, *new.unknown])

    def _field(self, f: Field, value: Any, depth: int) -> list[Piece]:
        try:
            if not f.is_message:
                return encode_field(f, value, depth)
            if not f.repeated:
                return record(f.number, self.pieces(value, depth + 1))
        except GesherError as e:
            raise e.within(f.name) from None
        out: list[Piece] = []
        for i, v in enumerate(value):
            try:
                out += record(f.number, self.pieces(v, depth + 1))
            except GesherError as e:
                raise e.within(f"{f.name}[{i}]") from None
        return out

    def _merged(self, source: Source, old: Message, base: Message, new: Message, depth: int) -> list[Piece]:
        if depth > DEPTH_LIMIT:
            raise too_deep()
        edited = {f.number: f for f in new.fields
                  if not same_field(f, getattr(base, f.name), getattr(new, f.name))}
        if old.until < 0:
            return self._of_pieces(source, old, base, new, edited, depth)
        if not edited:
            return [source.view[old.at:old.until]]
        rows = [(tag >> 3, at, payload, stop) for tag, at, payload, stop in records(source.buf, old.at, old.until)]
        places: dict[int, list[list[Piece]]] = {}
        for number, f in edited.items():
            count = sum(1 for row in rows if row[0] == number)
            places[number] = self._edited_field(source, old, base, new, f, count, rows, depth)
        late = [n for n in sorted(edited) if not any(row[0] == n for row in rows)]
        out: list[Piece] = []
        for number, at, _, stop in rows:
            while late and late[0] < number:
                out += places[late.pop(0)][0]
            if number in places:
                out += places[number].pop(0)
            else:
                out.append(source.view[at:stop])
        for n in late:
            out += places[n][0]
        return joined(_runs_together(source, out))

    def _of_pieces(self, source: Source, old: Message, base: Message, new: Message, edited: dict[int, Field],
                   depth: int) -> list[Piece]:
        """A message that the file wrote in several pieces: in one piece now, with all that it said."""
        out: list[Piece] = []
        for f in old.fields:
            value = getattr(old, f.name)
            if f.number in edited:
                out += chain.from_iterable(self._edited_field(source, old, base, new, f, 0, [], depth))
            elif value is not None and not (f.repeated and len(value) == 0):
                out += encode_field(f, value, depth)
        return joined([*out, *old.unknown])

    def _edited_field(self, source: Source, old: Message, base: Message, new: Message, f: Field, count: int,
                      rows: list[tuple[int, int, int, int]], depth: int) -> list[list[Piece]]:
        """What to write at each of the `count` records that the file has of a field (at least one place)."""
        places: list[list[Piece]] = [[] for _ in range(max(count, 1))]
        now, was, then = getattr(new, f.name), getattr(base, f.name), getattr(old, f.name)
        if now is None or (f.repeated and len(now) == 0):
            return places
        if not f.is_message:
            # A singular field that was written twice means the later one.
            places[-1 if not f.repeated else 0] = self._field(f, now, depth)
            return places
        if not f.repeated:
            try:
                if was is not None and then is not None and now.origin is None:
                    content = self._merged(source, then, was, now, depth + 1)
                else:
                    content = self.pieces(now, depth + 1)
            except GesherError as e:
                raise e.within(f.name) from None
            places[-1] = record(f.number, content)
            return places
        mine = [row for row in rows if row[0] == f.number]
        partner = _partners(source, then, was, now)
        taken = [p[0] for p in partner if p is not None]
        in_order = taken == sorted(taken)
        here = 0
        for i, (m, p) in enumerate(zip(now, partner)):
            try:
                if p is None:
                    places[here] += record(f.number, self.pieces(m, depth + 1))
                    continue
                b, k = p
                here = k if in_order and mine else 0
                if mine and same(was[b], m):
                    places[here].append(source.view[mine[k][1]:mine[k][3]])
                else:
                    places[here] += record(f.number, self._merged(source, then[k], was[b], m, depth + 1))
            except GesherError as e:
                raise e.within(f"{f.name}[{i}]") from None
        return places


def _partners(source: Source, old: Sequence[Message], base: Sequence[Message],
              new: Sequence[Message]) -> list[tuple[int, int] | None]:
    """For each new element of a list, the (index in base, index in the file) of the one that it was; each only once."""
    by_start = {m.at: k for k, m in enumerate(old)}
    pairs: list[tuple[int, int] | None] = [None] * len(new)
    origins: dict[int, tuple[int, int]] = {}
    plain: dict[bytes, list[tuple[int, int]]] = {}
    for b, m in enumerate(base):
        if m.origin is not None and m.origin[0] is source and m.origin[1] in by_start:
            origins[m.origin[1]] = (b, by_start[m.origin[1]])
        elif m.origin is None and len(base) == len(old):
            plain.setdefault(b"".join(encode_pieces(m)), []).append((b, b))
    for i, m in enumerate(new):
        if m.origin is not None:
            if m.origin[0] is source:
                pairs[i] = origins.pop(m.origin[1], None)
        elif plain:
            waiting = plain.get(b"".join(encode_pieces(m)))
            pairs[i] = waiting.pop(0) if waiting else None
    return pairs


def _runs_together(source: Source, pieces: list[Piece]) -> list[Piece]:
    """Neighbouring views of the source as one."""
    import numpy as np

    if not len(source):
        return pieces
    home = np.frombuffer(source.view, np.uint8).ctypes.data
    out: list[Piece] = []
    first = last = -1
    for p in pieces:
        if isinstance(p, memoryview) and p.obj is source.view.obj and len(p):
            at = np.frombuffer(p, np.uint8).ctypes.data - home
            if at == last:
                last = at + len(p)
            else:
                if first >= 0:
                    out.append(source.view[first:last])
                first, last = at, at + len(p)
            continue
        if first >= 0:
            out.append(source.view[first:last])
            first = last = -1
        if len(p):
            out.append(p)
    if first >= 0:
        out.append(source.view[first:last])
    return out
