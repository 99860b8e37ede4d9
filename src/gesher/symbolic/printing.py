"""How an expression is written: `2*seq + 1`, `(h + 2)//4`, `max(a, b)`, `a % 4`. `parse` reads it back.

A symbol alone is written as its name, whatever that is, since names are what a file carries in `dim_param`. Inside an
expression a name that is no identifier stands in backquotes (`` `batch size` + 1``), and so does, even alone, one that
would be read as something else: the symbol *named* `a + 1` is written `` `a + 1` ``.
"""

from __future__ import annotations

import re

from .dim import Dim, DimLike, Terms, walk

# A shared part is written as often as it is used, so some expressions have no text of bearable length.
LONGEST_TREE = 1000
LONGEST_TEXT = 4000

_PLAIN = re.compile(r"[^\W\d]\w*")


def plain(name: str) -> bool:
    """Whether a name can stand in an expression without quotes."""
    return name.isidentifier() and _PLAIN.fullmatch(name) is not None


def quoted(name: str) -> str:
    """A name in backquotes; those inside it are doubled."""
    return "`" + name.replace("`", "``") + "`"


def printable(d: DimLike) -> bool:
    """Whether `str(d)` is the whole expression, which `parse` reads back if its symbols are named."""
    if not isinstance(d, Dim):
        return d.bit_length() <= LONGEST_TREE
    return d.op == "sym" or _whole(d) is not None


def write(d: Dim) -> str:
    """The text of `d`. Beyond `LONGEST_TREE` nodes or `LONGEST_TEXT` characters it is a remark, no expression."""
    if d.op == "sym":
        if d.is_fresh or plain(d.name):
            return d.name
        from .parsing import parse
        alone = parse(d.name)
        return d.name if isinstance(alone, Dim) and alone.op == "sym" and alone.name == d.name else quoted(d.name)
    text = _whole(d)
    if text is not None:
        return text
    names = sorted(s.name for s in d.symbols())
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"<an expression of {d.size} nodes over {shown}>"


def _whole(d: Dim) -> str | None:
    if d.size > LONGEST_TREE:
        return None
    texts: dict[Dim, str] = {}
    for part in walk(d):
        texts[part] = _write(part, texts)
    return texts[d] if len(texts[d]) <= LONGEST_TEXT else None


def _write(part: Dim, texts: dict[Dim, str]) -> str:
    match part.op:
        case "sym":
            return part.name if part.is_fresh or plain(part.name) else quoted(part.name)
        case "add":
            return _sum(part._terms or {}, texts)
        case "mul":
            (m, c), = (part._terms or {}).items()
            return _term(m, c, texts)
        case "floordiv" | "mod":
            x, y = part.args
            bare = ("sym", "mul", "min", "max", "bcast") + (("floordiv",) if part.op == "floordiv" else ())
            left = _within(x, texts, bare)
            right = _within(y, texts, ("sym", "min", "max", "bcast"))
            return f"{left}//{right}" if part.op == "floordiv" else f"{left} % {right}"
    return f"{part.op}({', '.join(texts[x] if isinstance(x, Dim) else str(x) for x in part.args)})"


def _within(x: DimLike, texts: dict[Dim, str], bare: tuple[str, ...]) -> str:
    if not isinstance(x, Dim):
        return str(x) if x >= 0 else f"({x})"
    return texts[x] if x.op in bare else f"({texts[x]})"


def _term(m: tuple[Dim, ...], c: int, texts: dict[Dim, str]) -> str:
    factors = "*".join(_within(atom, texts, ("sym", "min", "max", "bcast")) for atom in m)
    return factors if c == 1 else f"-{factors}" if c == -1 else f"{c}*{factors}"


def _sum(terms: Terms, texts: dict[Dim, str]) -> str:
    """What is added first, then what is taken away; the constant at the end unless only it is positive."""
    constant = terms.get((), 0)
    ahead = [(m, c) for m, c in terms.items() if m and c > 0]
    behind = [(m, c) for m, c in terms.items() if m and c < 0]
    pieces: list[str] = []
    if constant and (ahead or constant < 0):
        behind.append(((), constant)) if constant < 0 else None
    for m, c in ahead:
        pieces.append(texts[m[0]] if c == 1 and len(m) == 1 else _term(m, c, texts))
    if constant > 0:
        pieces.append(str(constant))
    text = " + ".join(pieces)
    for m, c in behind:
        if not text:
            text = _term(m, c, texts)
        elif not m:
            text += f" - {-c}"
        else:
            text += " - " + (texts[m[0]] if c == -1 and len(m) == 1 else _term(m, -c, texts))
    return text
