"""A report as a browser sees it."""

import json
import re
from html.parser import HTMLParser
from typing import Any

from plotly.offline import get_plotlyjs


class Page(HTMLParser):
    """Elements, texts, tables and plots of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        assert html.count(get_plotlyjs()) <= 1
        self.html = html.replace(get_plotlyjs(), "")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.cells: list[str] = []
        self.titles: list[str] = []
        self._open: list[str] = []
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in {"td", "th"}:
            self.cells.append("")
            self.titles.append(dict(attrs).get("title") or "")
        if tag not in {"meta", "link", "img", "br"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" in self._open or "style" in self._open:
            return
        self.texts.append(data)
        if "td" in self._open or "th" in self._open:
            self.cells[-1] += data

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.texts))

    def attributes(self, name: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(name)) is not None]

    def plot(self, name: str) -> dict[str, Any]:
        found = re.search(rf'id="spec-{name}">(.*?)</script>', self.html, re.DOTALL)
        assert found is not None, f"no plot {name}"
        spec: dict[str, Any] = json.loads(found.group(1))
        return spec

    @property
    def plots(self) -> list[str]:
        return re.findall(r'id="spec-(\w+)"', self.html)


def coloured(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Do what the page's script does: look colours up by their names."""
    if isinstance(value, dict):
        return {name: coloured(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [coloured(entry) for entry in value]
    return "#123456" if isinstance(value, str) and value.startswith("@") else value
