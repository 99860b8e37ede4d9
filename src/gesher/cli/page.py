"""A compiled model as a page of HTML by itself: its kernels and loop nests with shapes, work and, where timed, rates.

Nothing is fetched: style and script stand in the page, so that it can be kept and mailed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from gesher.symbolic import Dim, DimLike

from .console import human_time

if TYPE_CHECKING:
    from gesher.compiler.peak import Peak
    from gesher.compiler.profile import Timed
    from gesher.compiler.work import Work

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --bar: #4a90d9; --nest: #d98f4a; --soft: #8882; }
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1700px; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .3rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .4rem; }
p { margin: .3rem 0; } .soft { opacity: .7; }
table { border-collapse: collapse; width: 100%; } th, td { padding: .25rem .5rem; border-bottom: 1px solid var(--line);
  text-align: left; vertical-align: top; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; } th { position: sticky; top: 0; background: Canvas; cursor: pointer; user-select: none; }
tr:hover td { background: var(--soft); } code { font: 12px ui-monospace, monospace; white-space:
  nowrap; } td.shapes { min-width: 16rem; }
td.long code { white-space: normal; overflow-wrap: anywhere; } table.short { width: auto; min-width: 40rem; }
.bar { height: .55rem; border-radius: 2px; background: var(--bar); min-width: 1px; } .nest .bar { background:
  var(--nest); } .track { width: 110px; } .what { font-weight: 600; } input { padding: .3rem .5rem; width: 20rem; }
"""
_SCRIPT = """
for (const table of document.querySelectorAll("table.steps")) {
  table.querySelectorAll("th").forEach((head, column) => head.addEventListener("click", () => {
    const body = table.tBodies[0], down = head.dataset.down !== "1";
    head.dataset.down = down ? "1" : "";
    const key = row => row.cells[column].dataset.v ?? row.cells[column].textContent;
    [...body.rows].sort((a, b) => {
      const x = key(a), y = key(b), order = isNaN(x) || isNaN(y) ? String(x).localeCompare(y) : x - y;
      return down ? -order : order;
    }).forEach(row => body.append(row));
  }));
}
const sought = document.querySelector("input");
sought.addEventListener("input", () => {
  for (const row of document.querySelectorAll("table.steps tbody tr"))
    row.hidden = !row.textContent.toLowerCase().includes(sought.value.toLowerCase());
});
"""


@dataclass(frozen=True)
class Part:
    """One segment: its steps as they are, or timed."""

    title: str
    works: Sequence[Work]
    timed: Sequence[Timed]
    sizes: Mapping[Dim, int]


def page(title: str, facts: Sequence[str], parts: Sequence[Part], peak: Peak | None = None,
         left: Sequence[str] = ()) -> str:
    """The page.

    Args:
        facts: lines under the title.
        left: what is not compiled, and why.
    """
    body = [f"<h1>{escape(title)}</h1>", *(f"<p class=soft>{escape(f)}</p>" for f in facts)]
    timed = [t for p in parts for t in p.timed]
    if peak is not None:
        body.append(f"<p class=soft>measured peaks of {peak.threads} thread{'s' * (peak.threads > 1)}: "
                    f"{peak.flops / 1e9:.1f} GFLOP/s, {peak.bytes / 1e9:.1f} GB/s from memory</p>")
    if timed:
        body.append(_together(timed))
    if left:
        body += ["<h2>Not compiled</h2>", *(f"<p>{escape(line)}</p>" for line in left)]
    body.append('<p><input placeholder="only steps that hold this text" aria-label="filter"></p>')
    for p in parts:
        body += [f"<h2>{escape(p.title)}</h2>", _steps(p, peak)]
    return ("<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>"
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n" + "\n".join(body) +
            f"\n<script>{_SCRIPT}</script></body></html>\n")


def _cell(text: str, value: object = None, number: bool = True) -> str:
    kind = " class=n" if number else ""
    return f'<td{kind} data-v="{escape(str(text if value is None else value))}">{text}</td>'


def _count(size: DimLike | None, unit: str, sizes: Mapping[Dim, int]) -> str:
    """A count, or the expression that it is, which may be long."""
    from gesher.compiler.work import amount, number_of

    if size is None:
        return _cell("-", -1)
    n = number_of(size, sizes)
    shown = escape(amount(size, unit, sizes).strip())
    return f'<td class=long data-v="-1"><code>{shown}</code></td>' if n is None else _cell(shown, n)


def _bar(part: float, whole: float) -> str:
    width = max(1, round(110 * part / whole)) if whole else 1
    return f'<td class=track data-v="{part}"><div class=bar style="width:{width}px"></div></td>'


def _together(timed: Sequence[Timed]) -> str:
    from gesher.compiler.profile import by_kernel

    whole = sum(t.seconds for t in timed) or 1.0
    rows = [f"<tr class={'nest' if name == 'loop nests' else 'kernel'}>{_bar(seconds, whole)}"
            f"{_cell(escape(name), number=False)}{_cell(str(n), n)}"
            f"{_cell(human_time(seconds), seconds)}{_cell(f'{100 * seconds / whole:.1f} %', seconds)}"
            f"{_rate(flops / seconds / 1e9 if flops and seconds else None)}</tr>"
            for name, n, seconds, flops in by_kernel(list(timed))]
    return f"<h2>Where the time goes: {human_time(whole)} a run</h2><table class='steps short'><thead><tr><th></th>" \
           "<th>kernel</th><th class=n>steps</th><th class=n>time</th><th class=n>part</th><th class=n>GFLOP/s</th>" \
           f"</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _rate(value: float | None, scale: float = 1.0, form: str = ".1f", unit: str = "") -> str:
    return _cell("-", -1) if value is None else _cell(f"{scale * value:{form}}{unit}", value)


def _steps(p: Part, peak: Peak | None) -> str:
    from gesher.compiler.work import shape_text

    by_step = {id(t.work.step): t for t in p.timed}
    whole = sum(t.seconds for t in p.timed) or 1.0
    longest = max((t.seconds for t in p.timed), default=0.0)
    heads = ["#", "step", "of the model", "shapes", "FLOP", "bytes"]
    if p.timed:
        heads = ["", *heads, "time", "part", "GFLOP/s", "of peak", "GB/s", "of peak"]
    numbers = {"#", "FLOP", "bytes", "time", "part", "GFLOP/s", "of peak", "GB/s"}
    rows = []
    for i, w in enumerate(p.works):
        told = w.kind not in ("loop", "branch")
        shapes = [*(shape_text(b, p.sizes) for b in w.reads), "->", *(shape_text(b, p.sizes) for b in w.writes)]
        shown = f"<td class=shapes>{' '.join(f'<code>{escape(x)}</code>' for x in shapes) if told else ''}</td>"
        cells = [_cell(str(i), i),
                 _cell(f'<span style="padding-left:{w.depth}rem"></span><span class=what>{escape(w.what)}</span> '
                       f"<span class=soft>{w.kind}</span>", w.what, number=False),
                 _cell(escape(w.comment), number=False), shown,
                 _count(w.flops, "", p.sizes), _count(w.bytes, "B", p.sizes)]
        if p.timed:
            t = by_step.get(id(w.step))
            if t is None:
                cells = [_bar(0.0, longest), *cells, *[_cell("-", -1)] * 6]
            else:
                arithmetic, memory = t.of_peak(peak) if peak is not None else (None, None)
                part = t.seconds / whole
                cells = [_bar(t.seconds, longest), *cells, _cell(human_time(t.seconds), t.seconds),
                         _cell(f"{100 * part:.1f} %", part), _rate(t.gflops),
                         _rate(arithmetic, 100, ".0f", " %"), _rate(t.gbytes), _rate(memory, 100, ".0f", " %")]
        rows.append(f"<tr class={w.kind}>{''.join(cells)}</tr>")
    head = "".join(f"<th{' class=n' if h in numbers else ''}>{h}</th>" for h in heads)
    return f"<table class=steps><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
