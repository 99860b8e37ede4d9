"""What the documentation shows runs, and what it names is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md"])
FLOORS = "src|tests|docs|bench|ops|ir|codec|base|compiler|inference|evaluator|checker|primitives|engines|frontends"


def test_the_tour_runs() -> None:
    text = (ROOT / "docs" / "tour.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 8
    program = "\n".join(blocks)
    exec(compile(program, "docs/tour.md", "exec"), {"__name__": "tour"})


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    for name in re.findall(rf"`((?:{FLOORS})/[\w/.-]+)`", page.read_text("utf-8")):
        found = [ROOT / name, ROOT / "src" / "gesher" / name]
        assert any(p.exists() for p in found), f"{page.name} names {name}, which is not there"


def test_every_verb_of_the_readme_is_one() -> None:
    from gesher.cli.main import VERBS

    shown = set(re.findall(r"`gesher (\w+)", (ROOT / "README.md").read_text("utf-8")))
    assert shown == set(VERBS)


def test_every_knob_is_documented() -> None:
    from gesher.base.knobs import KNOBS

    page = (ROOT / "docs" / "debugging.md").read_text("utf-8")
    for knob in KNOBS:
        assert knob.name in page
