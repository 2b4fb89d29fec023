"""A page as Chromium lays it out: what overflows, what overlaps, what it complains of, and a picture of it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)

NARROWEST = 500
"""Pixels: Chromium's window gets no narrower, so that narrower pages are shown in a frame."""

SECONDS = 120

MEASURE = """
<script>
const complaints = [];
addEventListener("error", event => complaints.push(event.message));
addEventListener("unhandledrejection", event => complaints.push(String(event.reason)));
const started = performance.now();
const drawn = () => [...document.querySelectorAll(".plot")].every(plot => plot.querySelector(".main-svg"));
const tell = () => {
  const root = document.documentElement, overlaps = [];
  for (const plot of document.querySelectorAll(".plot")) {
    const texts = [...plot.querySelectorAll("text")].filter(text => text.textContent.trim() && (
      /title$/.test(text.getAttribute("class") || "") || text.closest(".annotation, .legend")));
    const boxes = texts.map(text => [text.textContent, text.getBoundingClientRect()]);
    boxes.forEach(([name, a], i) => boxes.slice(i + 1).forEach(([other, b]) => {
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 2 && high > 2) overlaps.push(`${plot.id}: ${name} | ${other}`);
    }));
  }
  const wide = [...document.querySelectorAll("body *")].filter(element =>
    element.getBoundingClientRect().right > root.clientWidth + 1 && !element.closest(".scroll, svg, pre"));
  const found = { width: innerWidth, overflow: root.scrollWidth - root.clientWidth, overlaps, complaints,
    wide: wide.slice(0, 5).map(element => `${element.tagName}.${element.className}#${element.id}`),
    plots: document.querySelectorAll(".plot").length, milliseconds: performance.now() - started,
    height: root.scrollHeight };
  parent.postMessage(JSON.stringify(found), "*");
};
const wait = () => drawn() ? setTimeout(tell, 300) : setTimeout(wait, 100);
addEventListener("load", wait);
</script>
"""


@dataclass(frozen=True)
class Layout:
    """What was measured.

    Attributes:
        overflow: pixels by which the page is wider than its window.
        overlaps: titles of plots, annotations and entries of legends that lie on each other, a line each.
        wide: elements that reach beyond the window.
        complaints: errors of scripts.
        plots: how many there are.
        milliseconds: until all of them were drawn.
    """

    overflow: float
    overlaps: list[str]
    wide: list[str]
    complaints: list[str]
    plots: int
    milliseconds: float


def lay_out(page: Path, width: int, folder: Path) -> Layout:
    """Open a page in a window of some width, and keep a picture of it beside what was measured.

    Args:
        page: that is opened.
        width: of the window, in pixels.
        folder: for the picture.
    """
    measured = folder / "page.html"
    content = page.read_text("utf-8")
    measured.write_text(content.replace("<head>", f"<head>{MEASURE}", 1), "utf-8")
    frame = folder / f"{width}.html"
    listen = 'addEventListener("message", event => document.getElementById("told").textContent = event.data);'
    frame.write_text(
        f'<body style="margin:0"><script>{listen}</script><iframe src="page.html" '
        f'style="border:0;width:{width}px;height:9000px"></iframe><pre id="told"></pre>',
        "utf-8",
    )
    told = _chromium(folder, max(width, NARROWEST), "--dump-dom", frame)
    found = re.search(r'<pre id="told">(.+?)</pre>', told, re.DOTALL)
    assert found is not None, "the page was not drawn"
    facts: dict[str, Any] = json.loads(html.unescape(found[1]))
    assert facts["width"] == width
    _chromium(folder, max(width, NARROWEST), f"--screenshot={folder / f'{width}.png'}", frame)
    return Layout(**{name: facts[name] for name in Layout.__dataclass_fields__})


def loads(folder: Path, page: Path) -> list[str]:
    """Open a page in a frame for a minute of its own time; return what it told its parent, load by load.

    Args:
        folder: for the frame.
        page: in it.
    """
    frame = folder / "frame.html"
    listen = 'addEventListener("message", event => document.getElementById("told").append(event.data + "|"));'
    frame.write_text(
        f'<body><script>{listen}</script><iframe src="{page.name}" style="width:1000px;height:800px"></iframe>'
        '<pre id="told"></pre>',
        "utf-8",
    )
    told = re.search(r'<pre id="told">(.*?)</pre>', _chromium(folder, 1100, "--dump-dom", frame), re.DOTALL)
    assert told is not None
    return [line for line in told[1].split("|") if line]


def _chromium(folder: Path, width: int, what: str, page: Path) -> str:
    assert CHROMIUM is not None
    size = f"--window-size={width},9000"
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [CHROMIUM, *FLAGS, profile, size, "--virtual-time-budget=60000", what, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True).stdout
