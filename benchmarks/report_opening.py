"""How long a report takes to open in Chromium, and how large it is.

Protocol: the report of a made-up finished run (three models and the reference shipped, predictions kept, so many trials
measured, of eight settings and two metrics, each with its learning curve) is opened in headless Chromium without a GPU,
in a window of 1280 x 900 pixels, with a fresh profile each time. Told are milliseconds from the start of navigation on
the page's own clock, in real time: until the text is there (``DOMContentLoaded``), until the first plot is drawn, which
is all that the window shows, and until every plot is drawn and a further frame was painted. The start of the browser
itself is not in it. The page sends them to a socket on this machine, for which its policy against all connections is
taken out of the copy that is measured. ``loop`` is how long 20 million additions took in the page just after: on a
machine that others use, too, it says by how much all of it is slower. ``cpu`` is the time on processors of all of the
browser's processes and threads until then, less that of an empty page: what others do doesn't lengthen it by waiting,
and on two free cores no page takes longer.

    python benchmarks/report_opening.py --trials 2000 --repeats 5
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote

import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.reporting.browser import CHROMIUM, FLAGS
from tests.reporting.conftest import write_run

from qanas.core.run_folder import RunFolder, write_parquet
from qanas.reporting.report import write_report

TOLD = """
<script>
let text = 0, first = 0;
addEventListener("DOMContentLoaded", () => { text = performance.now(); });
const drawn = () => [...document.querySelectorAll(".plot")].every(plot => plot.querySelector(".main-svg"));
const tell = () => requestAnimationFrame(() => setTimeout(() => {
  const drawn = performance.now();
  let summed = 0;
  for (let i = 0; i < 2e7; i++) summed += i % 7;
  const loop = performance.now() - drawn;
  const plots = document.querySelectorAll(".plot").length;
  const told = JSON.stringify({ loop, text, first, drawn, plots, summed });
  new Image().src = "http://127.0.0.1:PORT/?" + encodeURIComponent(told);
}));
const wait = () => {
  if (!first && document.querySelector(".plot .main-svg")) first = performance.now();
  drawn() ? tell() : setTimeout(wait, 5);
};
addEventListener("load", wait);
</script>
"""

MUST = 2000.0
"""Milliseconds until all is drawn."""


def with_curves(folder: RunFolder) -> RunFolder:
    """Give every measured trial a learning curve, as a run leaves it."""
    rows = pl.read_parquet(folder.trials)
    epochs = [[25, 50, 75, 100] if outcome == "measured" else None for outcome in rows["outcome"]]
    columns = [pl.Series("curve_epoch", epochs, pl.List(pl.Int64()))]
    for side, factor in (("train", 0.9), ("val", 1.0)):
        curves = [
            None if mae is None else [mae * factor * k for k in (2.0, 1.5, 1.2, 1.0)] for mae in rows["mae_float"]
        ]
        columns.append(pl.Series(f"curve_{side}_mae", curves, pl.List(pl.Float64())))
    write_parquet(folder.trials, rows.with_columns(columns))
    return folder


def opened(page: Path) -> dict[str, float]:
    """Open a page once and return what it told, in milliseconds."""
    assert CHROMIUM is not None, "there is no Chromium: apt-get install chromium"
    with tempfile.TemporaryDirectory() as profile, socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        measured = page.with_name("measured.html")
        content = re.sub(r"<meta http-equiv=[^>]*>", "", page.read_text("utf-8"), count=1)
        told = TOLD.replace("PORT", str(server.getsockname()[1]))
        measured.write_text(content.replace("<head>", f"<head>{told}", 1), "utf-8")
        command = [
            CHROMIUM,
            *FLAGS,
            f"--user-data-dir={profile}",
            "--window-size=1280,900",
            "--remote-debugging-port=0",
        ]
        browser = subprocess.Popen([*command, measured.as_uri()], stderr=subprocess.DEVNULL)  # noqa: S603 - its own page
        try:
            connection, _ = server.accept()
            with connection:
                request = connection.recv(65536).decode()
            seconds = cpu_seconds(browser.pid)
        finally:
            browser.terminate()
            browser.wait()
    found: dict[str, float] = json.loads(unquote(request.split()[1].partition("?")[2]))
    return found | {"cpu": 1000 * seconds}


def cpu_seconds(process: int) -> float:
    """Return the time on processors of a process and all below it."""
    parents, times = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        number = int(path.parent.name)
        parents[number], times[number] = int(fields[1]), sum(map(int, fields[11:15]))
    family = {process}
    for number in sorted(parents):  # children have larger numbers than their parents, but for wrap-around
        if parents[number] in family:
            family.add(number)
    return sum(times.get(number, 0) for number in family) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[60, 2000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = []
    for trials in options.trials:
        with tempfile.TemporaryDirectory() as place:
            page = write_report(with_curves(write_run(Path(place) / "run", trials=trials)))
            empty = page.with_name("empty.html")
            empty.write_text("<html><head></head><body></body></html>", "utf-8")
            blank = statistics.median(opened(empty)["cpu"] for _ in range(options.repeats))
            times = [opened(page) for _ in range(options.repeats)]
            times = [time | {"cpu": time["cpu"] - blank} for time in times]
            found.append({"trials": trials, "bytes": page.stat().st_size, "plots": times[0]["plots"]} | {
                f"{what}_ms": {"median": statistics.median(t[what] for t in times), "most": max(t[what] for t in times)}
                for what in ("loop", "text", "first", "drawn", "cpu")
            })  # fmt: skip
        print(json.dumps(found[-1]))
    if options.out:
        options.out.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    slow = [entry for entry in found if entry["drawn_ms"]["median"] > MUST]
    sys.exit(1 if slow else 0)


if __name__ == "__main__":
    main()
