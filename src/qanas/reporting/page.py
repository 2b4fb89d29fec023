"""Pages that open offline: the template, its plots and the library that draws them, in one file."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanas.reporting.figures import Figure


def render_page(template: str, figures: Sequence[Figure | None], **values: object) -> str:
    """Return a page as HTML that loads nothing from elsewhere.

    Args:
        template: the name of a file beside this one that extends ``page.html.jinja``.
        figures: all that the template may show; plotly.js is in the page if there is one.
        values: what the template names.
    """
    environment = Environment(
        loader=PackageLoader("qanas.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["url"] = lambda name: quote(str(name), safe="")
    return environment.get_template(template).render(
        figures=[figure for figure in figures if figure is not None],
        plotly=Markup(get_plotlyjs()),  # noqa: S704 - the library's own source
        **values,
    )
