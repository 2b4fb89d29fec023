"""Runs that are killed, stopped, starved and damaged: nothing is lost, done twice or silently wrong.

    python benchmarks/faults.py                    all of it, about an hour
    python benchmarks/faults.py --kills 6 --sizes 3 --damages 8        a short form, some minutes
    python benchmarks/faults.py --only kills

Protocol: a user's small task and space; one run that nobody disturbs is what all others are held against. Each fault
hits a run of its own; then the same command goes on until it ends, and what it comes to is compared:

- lost: a trial, finalist or model of the undisturbed run that is missing;
- twice: an index that was trained twice and kept twice, or a candidate that was measured twice;
- wrong: another front.csv, or other bytes of a shipped file, with no word of it on the way; one job only, as the order
  in which two workers end is chance;
- traceback: on the screen of any of the commands.

Kills: SIGKILL at a random moment, sampled and over tables of blocks, with one job and with two. Signals: SIGINT and
SIGTERM; no process of the run may be left. Disk full: a run in a file system of a few sizes (needs `unshare -rm`, else
it is left out). Damage: each file of a finished run in six ways. Two: the same command twice at once. Locked: another
program holds the database for half a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

QANAS = [sys.executable, "-c", "from qanas.cli import main; main()"]
TRIALS = 6
LONGEST = 600
TABLES = ("front.csv", "finalists.csv")
SHIPPED = ("model.tflite", "weights.safetensors", "predictions.npz")

MODULE = """
import time
import numpy as np, torch.nn.functional as F
from torch import nn
from qanas.search_space.network_space import NetworkSpace
from qanas.search_space.settings import Integer
from qanas.search_space.training_group import TrainingSettings, training_settings
from qanas.tasks.base import Split, Task, TaskData

class MyTask(Task):
    metrics = {"accuracy": "maximize"}
    losses = ("ce",)
    def fingerprint(self): return "1"
    def load(self):
        r = np.random.default_rng(0)
        def part(n):
            x = r.normal(size=(n, 8)).astype(np.float32)
            return Split(x, (x[:, 0] > 0).astype(np.int64))
        return TaskData(part(96), part(40), part(41), output_size=2)
    def loss(self, kind, outputs, targets):
        time.sleep(0.01)
        return F.cross_entropy(outputs, targets)
    def evaluate(self, outputs, split):
        return {"accuracy": float((outputs.argmax(1) == split.targets).mean())}

class MySpace(NetworkSpace):
    def settings(self, shape):
        own = TrainingSettings(0.01, "adam", "none", 32, "ce")
        return [Integer("width", "architecture", 4, low=2, high=16), *training_settings(shape.losses, own)]
    def build(self, candidate, shape):
        w = candidate.architecture["width"]
        return nn.Sequential(nn.Linear(8, w), nn.ReLU(), nn.Linear(w, 2))
"""

RECIPE = f"""
[task]
name = "faulty:MyTask"
[space]
name = "faulty:MySpace"
[strategy]
name = "random"
trials = {TRIALS}
[estimation]
epochs = 2
[objectives]
accuracy_quantized = "maximize"
weight_bytes = "minimize"
[limits]
weight_bytes = 200
[finalists]
count = 2
seeds = 2
[baselines]
enabled = false
"""

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda _: b"",
    "cut": lambda content: content[: len(content) // 2],
    "a bit early": lambda content: _flipped(content, 0.05),
    "a bit in the middle": lambda content: _flipped(content, 0.5),
    "a bit late": lambda content: _flipped(content, 0.95),
    "zeros": lambda content: bytes(len(content)),
}


def _flipped(content: bytes, share: float) -> bytes:
    if not content:
        return b"x"
    place = int(share * len(content))
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]


@dataclass
class Row:
    """What one kind of fault came to."""

    kind: str
    tried: int = 0
    told: int = 0
    lost: int = 0
    twice: int = 0
    wrong: int = 0
    tracebacks: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def bad(self) -> int:
        """What must not be."""
        return self.lost + self.twice + self.wrong + self.tracebacks


@dataclass(frozen=True)
class Place:
    """A folder with the recipe, and the undisturbed run's ends."""

    folder: Path
    sound: Path

    def command(self, out: Path, *more: str) -> list[str]:
        """The run's command."""
        return [*QANAS, "run", str(self.folder / "r.toml"), "--out", str(out), *more]

    def run(self, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        command = self.command(out, *more)
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST)  # noqa: S603

    def start(self, out: Path, *more: str) -> subprocess.Popen[str]:
        """Start, in a process group of its own."""
        return subprocess.Popen(  # noqa: S603 - our own
            self.command(out, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )


def judge(row: Row, place: Place, out: Path, said: list[str], *, exact: bool = True) -> None:
    """Hold a run that went on to its end against the undisturbed one.

    Args:
        row: is added to.
        place: has the undisturbed run.
        out: the run's folder.
        said: what the commands printed on stderr.
        exact: whether its files have to be the same to the byte.
    """
    row.tracebacks += any("Traceback" in text for text in said)
    missing = [name for name in ("trials.parquet", *TABLES) if not (out / name).is_file()]
    if missing:
        row.lost += 1
        row.notes.append(f"{out.name}: no {missing[0]}: {said[-1].strip()[-160:]}")
        return
    trials = pl.read_parquet((out / "trials.parquet").read_bytes())
    counted = trials.filter(pl.col("outcome").is_in(["measured", "failed"]))
    row.lost += set(counted["index"]) != set(range(TRIALS))
    row.twice += counted["index"].n_unique() != len(counted) or counted["key"].n_unique() != len(counted)
    if exact:
        different = list(differences(place.sound, out))
        row.wrong += bool(different)
        row.notes += [f"{out.name}: {name} differs" for name in different[:1]]


def differences(sound: Path, other: Path) -> Iterator[str]:
    """Yield the files of two finished runs that differ and must not."""
    names = [*TABLES, *(f"models/{model.name}/{n}" for model in (sound / "models").iterdir() for n in SHIPPED)]
    for name in names:
        there = (other / name).is_file()
        if not there or (sound / name).read_bytes() != (other / name).read_bytes():
            yield name


def kills(place: Place, count: int, number: int = signal.SIGKILL) -> Row:
    """Kill runs at random moments, with one job and with two, and let them go on."""
    row = Row(f"{signal.Signals(number).name}, random moment")
    generator = random.Random(int(number))  # noqa: S311 - moments
    started = time.monotonic()
    place.run(place.folder / "timed")
    whole = time.monotonic() - started
    for attempt in range(count):
        jobs, out = 1 + attempt % 2, place.folder / f"{row.kind[:7]}{attempt}"
        said = []
        process = place.start(out, "--set", f"estimation.jobs={jobs}")
        try:
            process.communicate(timeout=generator.uniform(0.2, 1.0) * whole)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, number)
            said.append(process.communicate(timeout=LONGEST)[1])
        row.tried += 1
        row.tracebacks += left_over(process.pid)
        said.append(place.run(out, "--set", f"estimation.jobs={jobs}").stderr)
        judge(row, place, out, said, exact=jobs == 1)
        shutil.rmtree(out)
    return row


def left_over(group: int) -> bool:
    """Tell whether any process of a group is alive a moment after its leader ended."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    return True


def full_disk(place: Place, count: int) -> Row:
    """Run in file systems that are too small, then with room."""
    row = Row("disk full")
    small = place.folder / "small"
    small.mkdir()
    unshare = shutil.which("unshare") or "/bin/false"
    if subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False).returncode:  # noqa: S603
        row.notes.append("left out: no unshare -rm here")
        return row
    for attempt in range(count):
        kilobytes = 60 + int((1500 - 60) * attempt / max(count - 1, 1))
        command = " ".join(f"'{part}'" for part in place.command(small / "run"))
        kept = place.folder / "kept"
        script = (
            f"mount -t tmpfs -o size={kilobytes}k tmpfs {small} && {command} > {place.folder}/o 2> {place.folder}/e1; "
            f"mount -o remount,size=64m {small} && {command} >> {place.folder}/o 2> {place.folder}/e2; "
            f"rm -rf {kept}; cp -r {small}/run {kept}"
        )
        subprocess.run([unshare, "-rm", "bash", "-c", script], check=False, timeout=LONGEST)  # noqa: S603
        said = [(place.folder / name).read_text("utf-8") for name in ("e1", "e2")]
        row.tried += 1
        row.told += "qanas: " in said[0]
        judge(row, place, kept, said)
    return row


def damage(place: Place, most: int) -> Row:
    """Damage each file of a finished run in every way, and let the command go on."""
    row = Row("a damaged file")
    files = sorted(path.relative_to(place.sound) for path in place.sound.rglob("*") if path.is_file())
    cases = [(file, way) for file in files if file.name not in {"lock", "log.txt"} for way in DAMAGES]
    random.Random(0).shuffle(cases)  # noqa: S311 - which come first
    out = place.folder / "damaged"
    for file, way in cases[:most]:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(place.sound, out)
        content = (out / file).read_bytes()
        (out / file).write_bytes(DAMAGES[way](content))
        done = place.run(out)
        row.tried += 1
        if done.returncode == 2 and done.stderr.count("\n") == 1:  # noqa: PLR2004 - bad input, in one line
            row.told += 1
            continue
        before = row.bad
        judge(row, place, out, [done.stderr])
        if row.bad > before:
            row.notes.append(f"{file}, {way}: {done.stderr.strip()[-160:]}")
    return row


def two_at_once(place: Place) -> Row:
    """Start the same command twice."""
    row = Row("two processes", tried=1)
    out = place.folder / "two"
    both = [place.start(out), place.start(out)]
    said = [process.communicate(timeout=LONGEST)[1] for process in both]
    row.told = sum("works in this folder" in text for text in said)
    judge(row, place, out, [*said, place.run(out).stderr])
    return row


def locked(place: Place, seconds: float) -> Row:
    """Hold the database while a run works."""
    row = Row(f"database locked for {seconds:g} s", tried=1)
    out = place.folder / "locked"
    process = place.start(out)
    while not (out / "study.db").exists() and process.poll() is None:
        time.sleep(0.05)
    other = sqlite3.connect(out / "study.db", timeout=60, isolation_level=None)
    other.execute("begin immediate")
    time.sleep(seconds)
    other.execute("rollback")
    other.close()
    judge(row, place, out, [process.communicate(timeout=LONGEST)[1]])
    return row


def table(rows: list[Row]) -> str:
    """Return the rows as text."""
    names = ("tried", "told", "lost", "twice", "wrong", "tracebacks")
    lines = [f"{'fault':32}" + "".join(f"{name:>11}" for name in names)]
    lines += [f"{row.kind:32}" + "".join(f"{getattr(row, name):>11}" for name in names) for row in rows]
    return "\n".join([*lines, *(note for row in rows for note in row.notes)])


def bench(arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """Return what every kind of fault came to."""
    (folder / "faulty.py").write_text(MODULE, "utf-8")
    (folder / "r.toml").write_text(RECIPE, "utf-8")
    place = Place(folder, folder / "sound")
    done = place.run(place.sound)
    assert done.returncode == 0, done.stderr
    kinds: dict[str, Callable[[], list[Row]]] = {
        "kills": lambda: [kills(place, arguments.kills)],
        "signals": lambda: [kills(place, max(1, arguments.kills // 4), n) for n in (signal.SIGINT, signal.SIGTERM)],
        "disk": lambda: [full_disk(place, arguments.sizes)],
        "damage": lambda: [damage(place, arguments.damages)],
        "two": lambda: [two_at_once(place)],
        "locked": lambda: [locked(place, arguments.locked)],
    }
    rows = []
    for name in arguments.only or kinds:
        rows += kinds[name]()
        print(table(rows[-1:]), flush=True)
    return rows


def main() -> None:
    """Print the table; exit with 1 where anything was lost, twice, wrong or a traceback."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--sizes", type=int, default=20)
    parser.add_argument("--damages", type=int, default=10**6)
    parser.add_argument("--locked", type=float, default=30.0)
    parser.add_argument("--only", action="append", choices=["kills", "signals", "disk", "damage", "two", "locked"])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        rows = bench(arguments, Path(folder))
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps([vars(row) for row in rows], indent=2), "utf-8")
    sys.exit(any(row.bad for row in rows))


if __name__ == "__main__":
    main()
