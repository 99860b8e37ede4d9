"""The page of rules says what the table of rules says."""

from pathlib import Path

from gesher.checker import table

PAGE = Path(__file__).parents[2] / "docs" / "rules.md"


def test_the_page_holds_the_table() -> None:
    assert table() in PAGE.read_text("utf-8"), "write it anew, as the page says"
