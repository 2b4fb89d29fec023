"""The page says what the exporter knows."""

from __future__ import annotations

import runpy
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "exported.py"


def test_the_page_lists_what_is_known() -> None:
    found, wanted = runpy.run_path(str(TOOL))["page"]()
    assert "`scaled_dot_product_attention`" in wanted
    assert found == wanted, "run python tools/exported.py"
