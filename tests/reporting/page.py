"""A report as a browser sees it."""

import base64
import gzip
import json
import re
from html.parser import HTMLParser
from typing import Any


def unpacked(html: str, name: str) -> str:
    """What the page's script unpacks from an element."""
    found = re.search(rf'id="{name}">(.*?)</script>', html, re.DOTALL)
    assert found is not None, f"no {name}"
    return gzip.decompress(base64.b64decode(found.group(1))).decode()


class Page(HTMLParser):
    """Elements, texts, tables and plots of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
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
        spec: dict[str, Any] = json.loads(unpacked(self.html, f"spec-{name}"))
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
