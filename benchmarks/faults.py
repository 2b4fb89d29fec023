"""Runs that are killed, stopped, starved and damaged: nothing is lost, done twice or silently wrong.

    python benchmarks/faults.py --json faults.json           all of it, an hour or two; goes on where it was stopped
    python benchmarks/faults.py --short                      a run of each kind, at moments that are counted
    python benchmarks/faults.py --only kills --kills 12      a part

Protocol: a user's small task and space, searched by training candidates ("sampled"), and a small space of blocks with
a teacher, searched over tables ("blocks"). A run of each that nobody disturbs is what all others are held against.
Each fault hits a run of its own; then the same command goes on until it ends, and what it comes to is compared:

- lost: a trial, a table of a block, a finalist or a model of the undisturbed run that is missing;
- twice: an index that was trained twice and kept twice, a candidate that was measured twice, a table that was made
  twice;
- wrong: another front.csv, finalists.csv or other bytes of a shipped file, with no word of it on the way. Not for a
  sampled run with two jobs: the order in which two workers end is chance;
- traceback: on the screen of any of the commands; or a process that is left over.

Kills: SIGKILL at a random moment, sampled and over tables of blocks, with one job and with two (of ten runs each: four,
four, one, one; a worker's start is most of what two jobs cost). Signals: SIGINT and SIGTERM. Disk full: a run in a file
system of a few sizes (needs `unshare -rm`, else it is left out). Damage: each file of a finished run in six ways. Two:
the same command twice at once. Locked: another program holds the database for half a minute.

The command's process is a fork of one that has imported what the command imports: moments are spread over its work,
not over the imports.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import polars as pl

from qanas import cli

QANAS = [sys.executable, "-c", "from qanas.cli import main; main()"]
IMPORTED = ("qanas.workflows.run", "qanas.workflows.check", "qanas.reporting.report", "qanas.reporting.live", "sympy",
            "torch.fx.experimental.symbolic_shapes", "optuna.importance")  # fmt: skip
"""What the command imports on its way."""

FORKED = mp.get_context("forkserver")
"""From a process that only imports: threads, such as those of Polars, don't survive a fork."""

TRIALS = 6
LONGEST = 900
DONE, BAD_INPUT, INTERRUPTED = 0, 2, 130
TABLES = ("front.csv", "finalists.csv")
NOT_THE_SAME = {"card.json"}
"""Has the latencies that were measured."""

RUN = "run"
"""What every run's folder is called: names in firmware begin with it."""

USERS = Path(__file__).with_name("mine.py")

FAULTY = """
import itertools
import os
import time

from mine import MySpace, MyTask

calls = itertools.count()

class Faulty(MyTask):
    def loss(self, kind, outputs, targets):
        time.sleep(0.01)
        if os.environ.get("FAULTY_CALL") == str(next(calls)):
            os.kill(os.getpid(), int(os.environ["FAULTY_SIGNAL"]))
        return super().loss(kind, outputs, targets)
"""

SAMPLED = f"""
[task]
name = "faulty:Faulty"
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

BLOCKS = """
[task]
name = "qanas.testing.small:SmallTask"
[teacher]
network = "qanas.testing.small:SmallSpace"
epochs = 3
[distillation]
steps = 64
learning_rate = 0.5
[table]
bits = [8, 4]
calibration_samples = 16
[objectives]
accuracy_quantized = "maximize"
weight_bytes = "minimize"
[finalists]
count = 2
seeds = 2
"""

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda _: b"",
    "cut": lambda content: content[: len(content) // 2],
    "a bit early": lambda content: _flipped(content, 0.05),
    "a bit in the middle": lambda content: _flipped(content, 0.5),
    "a bit late": lambda content: _flipped(content, 0.95),
    "zeros": lambda content: bytes(len(content)),
}

READ_BY = {"features": "blocks/*/*", "blocks": "front.csv", "trainings": "models"}
"""What is made of a folder's files: taken away, they are read again. Of a supernet its block's table."""


def _flipped(content: bytes, share: float) -> bytes:
    if not content:
        return b"x"
    place = int(share * len(content))
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]


@dataclass
class Row:
    """What one kind of fault came to.

    Attributes:
        kind: of the fault.
        tried: faults.
        told: those that ended in one line for the person.
        lost: see above, as are the others.
        done: whether all of them were tried.
        notes: what was bad, a line each.
    """

    kind: str
    tried: int = 0
    told: int = 0
    lost: int = 0
    twice: int = 0
    wrong: int = 0
    tracebacks: int = 0
    done: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def bad(self) -> int:
        """What must not be."""
        return self.lost + self.twice + self.wrong + self.tracebacks


@dataclass(frozen=True)
class Command:
    """A command that works, in a process group of its own."""

    process: BaseProcess
    stderr: Path

    def ended(self, within: float = LONGEST) -> bool:
        """Wait for the end; tell whether it came in time."""
        self.process.join(within)
        return self.process.exitcode is not None

    def stop(self, number: int) -> None:
        """Send a signal to it alone."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def leaves_processes(self) -> bool:
        """Tell whether any of its processes is alive a moment after it has ended."""
        assert self.process.pid is not None
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return False
            time.sleep(0.1)
        return True

    @property
    def code(self) -> int:
        """The exit code; of a signal the negative number."""
        if not self.ended():
            self.stop(signal.SIGKILL)
            raise TimeoutError(f"hung: {self.said}")
        code = self.process.exitcode
        assert code is not None
        return code

    @property
    def said(self) -> str:
        """What it printed on stderr."""
        return self.stderr.read_text("utf-8", "replace")


def _be_the_command(arguments: list[str], stderr: Path, environment: Mapping[str, str]) -> None:
    os.setsid()
    os.environ.update(environment)
    for number, path in ((0, os.devnull), (1, f"{stderr}.out"), (2, stderr)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
    sys.stdout, sys.stderr = os.fdopen(1, "w", encoding="utf-8"), os.fdopen(2, "w", encoding="utf-8")
    sys.argv = ["qanas", *arguments]
    cli.main()


@dataclass(frozen=True)
class Place:
    """A folder with a recipe, and with the run of it that nobody disturbs.

    Attributes:
        folder: of the recipe.
        name: of the kind of search.
    """

    folder: Path
    name: str

    @staticmethod
    def prepare(folder: Path) -> list[Place]:
        """Write the user's files; a place for each kind of search."""
        places = []
        for name, recipe in (("sampled", SAMPLED), ("blocks", BLOCKS)):
            (folder / name).mkdir()
            (folder / name / "mine.py").write_bytes(USERS.read_bytes())
            (folder / name / "faulty.py").write_text(FAULTY, "utf-8")
            (folder / name / "r.toml").write_text(recipe, "utf-8")
            places.append(Place(folder / name, name))
        return places

    def arguments(self, out: Path, *more: str) -> list[str]:
        """The run's command line."""
        return ["run", str(self.folder / "r.toml"), "--out", str(out), *more]

    def start(self, out: Path, *more: str, **environment: str) -> Command:
        """Start the command."""
        stderr = Path(tempfile.mkstemp(".stderr", dir=self.folder)[1])
        given = (self.arguments(out, *more), stderr, environment)
        process = FORKED.Process(target=_be_the_command, args=given)
        process.start()
        return Command(process, stderr)

    def run(self, out: Path, *more: str) -> Command:
        """Run to the end."""
        command = self.start(out, *more)
        assert command.code is not None
        return command

    @cached_property
    def sound(self) -> Path:
        """The folder of the undisturbed run."""
        out = self.folder / "sound" / RUN
        done = self.run(out)
        assert done.code == DONE, done.said
        return out

    @cached_property
    def seconds(self) -> float:
        """How long it takes now."""
        started = time.monotonic()
        self.run(self.folder / "timed" / RUN)
        return time.monotonic() - started

    def judge(self, row: Row, out: Path, said: list[str], *, exact: bool = True) -> None:
        """Hold a run that went on to its end against the undisturbed one.

        Args:
            row: is added to.
            out: the run's folder.
            said: what its commands printed on stderr.
            exact: whether its files have to be the same to the byte.
        """
        before = row.bad
        row.tracebacks += any("Traceback" in text for text in said)
        row.lost += any(not (out / name).is_file() for name in (*TABLES, "summary.json", "report.html"))
        if row.bad == before:
            (self._count_trials if self.name == "sampled" else self._count_tables)(row, out)
        different = list(self.differences(out)) if exact and row.bad == before else []
        row.wrong += bool(different)
        if row.bad > before:
            last = said[-1].strip()[-160:]
            row.notes.append(f"{self.name}/{out.parent.name}: {', '.join(different[:2])} {last}")

    @staticmethod
    def _count_trials(row: Row, out: Path) -> None:
        trials = pl.read_parquet((out / "trials.parquet").read_bytes())
        counted = trials.filter(pl.col("outcome").is_in(["measured", "failed"]))
        row.lost += set(counted["index"]) != set(range(TRIALS))
        row.twice += counted["index"].n_unique() != len(counted) or counted["key"].n_unique() != len(counted)

    def _count_tables(self, row: Row, out: Path) -> None:
        wanted, found = (
            {path.relative_to(folder) for path in folder.glob("blocks/*/*")} for folder in (self.sound, out)
        )
        row.lost += bool(wanted - found)
        row.twice += bool(found - wanted)

    def differences(self, other: Path) -> Iterator[str]:
        """Yield the files of a finished run that differ from the undisturbed one's and must not."""
        kept = [path for pattern in ("models/**/*", "blocks/*/*.parquet") for path in self.sound.glob(pattern)]
        names = [*TABLES, *(str(path.relative_to(self.sound)) for path in kept if path.is_file())]
        for name in names:
            there = (other / name).is_file()
            same = there and (Path(name).name in NOT_THE_SAME or _same(self.sound / name, other / name))
            if not same:
                yield name


def _same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def kills(places: list[Place], row: Row, count: int, number: int) -> Iterator[None]:
    """Kill runs at random moments and let them go on."""
    for attempt in range(row.tried, count):
        generator = random.Random(f"{number} {attempt}")  # noqa: S311 - moments
        jobs = 2 if attempt % 10 in {4, 9} else 1
        place = places[(attempt + attempt // 10) % 2]
        out = place.folder / f"{row.kind[:7]}{attempt}" / RUN
        shutil.rmtree(out, ignore_errors=True)
        moment = generator.uniform(0.02, 1.0) * place.seconds * (1.5 if jobs > 1 else 1)
        command = place.start(out, "--set", f"estimation.jobs={jobs}")
        if not command.ended(moment):
            command.stop(number)
        said = [f"{command.said} {command.code}"]
        row.tried += 1
        left = command.leaves_processes()
        row.tracebacks += left
        row.notes += [f"{out.parent.name}: a process is left"] if left else []
        said.append(place.run(out, "--set", f"estimation.jobs={jobs}").said)
        place.judge(row, out, said, exact=jobs == 1 or place.name == "blocks")
        shutil.rmtree(out, ignore_errors=True)
        yield


SENT = ((signal.SIGKILL, 9), (signal.SIGTERM, 12), (signal.SIGINT, 15), (signal.SIGTERM, 5))
"""Signals, and the call of the loss, counted from a session's start, in which each arrives."""


def counted(places: list[Place], row: Row, most: int) -> Iterator[None]:
    """Let signals arrive at moments that are counted, one after the other in one run."""
    place, out = places[0], places[0].folder / "counted" / RUN
    said = []
    for number, call in SENT[:most]:
        command = place.start(out, FAULTY_CALL=str(call), FAULTY_SIGNAL=str(int(number)))
        row.tried += 1
        expected = -number if number == signal.SIGKILL else INTERRUPTED
        if command.code != expected:
            row.wrong += 1
            row.notes.append(f"call {call}: ended with {command.code}, not {expected}")
        said.append(command.said)
    said.append(place.run(out).said)
    place.judge(row, out, said)
    yield


def full_disk(places: list[Place], row: Row, count: int) -> Iterator[None]:
    """Run in file systems that are too small, then with room."""
    unshare = shutil.which("unshare") or "/bin/false"
    if subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False).returncode:  # noqa: S603
        row.notes.append("left out: no unshare -rm here")
        yield
        return
    for attempt in range(row.tried, count):
        place = places[attempt % 2]
        assert place.sound.is_dir()
        small, kept, words = (place.folder / name for name in ("small", "kept", "words"))
        for folder in (small, words):
            folder.mkdir(exist_ok=True)
        kilobytes = round(60 * (6500 / 60) ** (attempt / max(count - 1, 1)))
        command = " ".join(f"'{part}'" for part in [*QANAS, *place.arguments(small / "run")])
        script = (
            f"mount -t tmpfs -o size={kilobytes}k tmpfs {small} && {command} > {words}/o 2> {words}/1; "
            f"mount -o remount,size=64m {small} && {command} >> {words}/o 2> {words}/2; "
            f"rm -rf {kept}; cp -r {small}/run {kept}"
        )
        subprocess.run([unshare, "-rm", "bash", "-c", script], check=False, timeout=LONGEST)  # noqa: S603
        said = [(words / name).read_text("utf-8", "replace") for name in ("1", "2")]
        row.tried += 1
        row.told += "qanas: " in said[0]
        before = row.bad
        place.judge(row, kept, said)
        if row.bad > before:
            row.notes.append(f"{kilobytes} kB: {said[0].strip()[-400:]}")
        yield


def damage(places: list[Place], row: Row, most: int, *, files: str) -> Iterator[None]:
    """Damage each file of a finished run in every way, and let the command go on."""
    cases = [
        (place, path.relative_to(place.sound), way)
        for place in places
        for path in sorted(place.sound.glob(files))
        if path.is_file() and path.name not in {"lock", "log.txt"}
        for way in DAMAGES
    ]
    random.Random(0).shuffle(cases)  # noqa: S311 - which come first
    for place, file, way in cases[row.tried : most]:
        out = place.folder / "damaged" / RUN
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(place.sound, out)
        (out / file).write_bytes(DAMAGES[way]((out / file).read_bytes()))
        for path in out.glob(_read_by(file)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        done = place.run(out)
        row.tried += 1
        if done.code == BAD_INPUT and done.said.count("\n") == 1:
            row.told += 1
        else:
            before = row.bad
            place.judge(row, out, [done.said])
            row.notes += [f"{place.name}: {file}, {way}"] if row.bad > before else []
        yield


def _read_by(file: Path) -> str:
    """Return a pattern of what is to be removed so that a file is needed again."""
    if file.name.startswith("supernet"):
        return str(file.parent / "table*")
    return READ_BY.get(file.parts[0], "nothing")


def two_at_once(places: list[Place], row: Row, place: int) -> Iterator[None]:
    """Start the same command twice."""
    out = places[place].folder / "two" / RUN
    both = [places[place].start(out), places[place].start(out)]
    codes = sorted(command.code for command in both)
    row.tried = 1
    row.told = sum("works in this folder" in command.said for command in both)
    row.notes += [f"ended with {codes}"] if codes != [DONE, BAD_INPUT] else []  # the first was done when both had begun
    places[place].judge(row, out, [*(command.said for command in both), places[place].run(out).said])
    yield


def locked(places: list[Place], row: Row, seconds: float) -> Iterator[None]:
    """Hold the database while a run works."""
    place = places[0]
    out = place.folder / "locked" / RUN
    command = place.start(out)
    while not (out / "study.db").exists() and not command.ended(0.05):
        pass
    other = sqlite3.connect(out / "study.db", timeout=60, isolation_level=None)
    other.execute("begin immediate")
    time.sleep(seconds)
    other.execute("rollback")
    other.close()
    row.tried = 1
    row.wrong += command.code != DONE
    place.judge(row, out, [command.said])
    yield


def table(rows: list[Row]) -> str:
    """Return the rows as text."""
    names = ("tried", "told", "lost", "twice", "wrong", "tracebacks")
    lines = [f"{'fault':32}" + "".join(f"{name:>11}" for name in names)]
    lines += [f"{row.kind:32}" + "".join(f"{getattr(row, name):>11}" for name in names) for row in rows]
    return "\n".join([*lines, *(note for row in rows for note in row.notes)])


Fault = Callable[[list[Place], Row, Any], Iterator[None]]
"""Hits a run, as often as its last argument says, from `Row.tried` on; yields after each."""


def faults(arguments: argparse.Namespace) -> Iterator[tuple[str, Row, Fault, Any]]:
    """Yield every kind of fault: its name, its row, what does it and how often."""
    yield "counted", Row("signals, counted moments"), counted, arguments.counted
    for number, name in enumerate(("sampled", "blocks")):
        yield "two", Row(f"two processes, {name}"), two_at_once, number
    yield "locked", Row(f"database locked for {arguments.locked:g} s"), locked, arguments.locked
    yield "disk", Row("disk full"), full_disk, arguments.sizes
    yield "damage", Row("a damaged file"), partial(damage, files=arguments.files), arguments.damages
    for name, number, count in (
        ("kills", signal.SIGKILL, arguments.kills),
        ("signals", signal.SIGINT, max(1, arguments.kills // 4)),
        ("signals", signal.SIGTERM, max(1, arguments.kills // 4)),
    ):
        yield name, Row(f"{number.name}, random moments"), partial(kills, number=number), count


KINDS = ("counted", "two", "locked", "disk", "damage", "kills", "signals")

SHORT = {"counted": 2, "locked": 1.0, "sizes": 1, "damages": 2, "kills": 1}
"""Instead of the full counts."""


def bench(arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """Return what every kind of fault came to, going on with the rows of a file."""
    known: dict[str, dict[str, Any]] = {}
    if arguments.json and arguments.json.is_file():
        known = {row["kind"]: row for row in json.loads(arguments.json.read_text("utf-8"))}
    FORKED.set_forkserver_preload([*IMPORTED])
    places = Place.prepare(folder)
    for name, fresh, hit, count in faults(arguments):
        if name not in (arguments.only or [name]) or known.get(fresh.kind, {}).get("done"):
            continue
        row = Row(**known.get(fresh.kind, vars(fresh)))
        for _ in hit(places, row, count):
            known[row.kind] = vars(row)
            keep(arguments.json, known)
        row.done = True
        keep(arguments.json, known)
        print(table([row]), flush=True)
    return [Row(**row) for row in known.values()]


def keep(path: Path | None, known: dict[str, dict[str, Any]]) -> None:
    """Write what there is so far."""
    if path:
        path.write_text(json.dumps(list(known.values()), indent=2) + "\n", "utf-8")


def main() -> None:
    """Print the table; exit with 1 where anything was lost, twice, wrong or a traceback."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--counted", type=int, default=len(SENT))
    parser.add_argument("--sizes", type=int, default=20)
    parser.add_argument("--damages", type=int, default=10**6)
    parser.add_argument("--files", default="**/*", help="which of a run's files are damaged")
    parser.add_argument("--locked", type=float, default=30.0)
    parser.add_argument(
        "--only", action="append", choices=["counted", "two", "locked", "disk", "damage", "kills", "signals"]
    )
    parser.add_argument("--json", type=Path)
    parser.set_defaults(**(SHORT if "--short" in sys.argv else {}))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        rows = bench(arguments, Path(folder))
    print(table(rows))
    sys.exit(any(row.bad for row in rows))


if __name__ == "__main__":
    main()
