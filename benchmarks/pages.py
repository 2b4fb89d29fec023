"""Pages of results, into which people write what they make of them."""

from __future__ import annotations

from pathlib import Path


def write_page(path: Path, text: str) -> None:
    """Write a page; where another one is there, beside it as .new.md: conclusions were written into it by hand.

    Args:
        path: of the page.
        text: that a script makes of the figures.
    """
    there = path.is_file() and path.read_text("utf-8") != text
    place = path.with_suffix(".new.md") if there else path
    place.write_text(text, "utf-8")
    print(place)
