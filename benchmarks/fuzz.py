"""Inputs of any kind, mutated: each is taken, or refused in one line; nothing of it is touched, and nothing hangs.

    python benchmarks/fuzz.py                      5,000 inputs, some minutes
    python benchmarks/fuzz.py --share 0.02         a hundred
    python benchmarks/fuzz.py --only recipes
    python benchmarks/fuzz.py --installed $(which qanas) --json installed.json     command lines alone; goes on

Protocol: sound inputs are written once: engines in C-MAPSS' format, a folder of images with masks, a calibration
archive, weights as torch and as safetensors leave them, a recipe, command lines. Each is mutated, by bytes (changed,
cut, doubled, emptied), by lines and words, or by what it means (another type, shape or mode, a huge number, an unknown
name, a key that is missing), from a seed that is its number. It is read in this process. What may be raised is
`InputError`, in one line that is not empty; `NotShippedError` for weights that leave no network. Command lines run as
the command does, in a process of their own that has imported what the command imports; one that is refused ends with
exit code 2 and one line on stderr. Files are compared before and after. 20 seconds without an answer count as a hang.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing as mp
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
import zipfile
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from qanas import cli
from qanas.core.errors import InputError
from qanas.exporting.samples import Samples
from qanas.exporting.source import NotShippedError
from qanas.quantization.tracing import Arguments
from qanas.recipe import load_plan
from qanas.tasks.segmentation import Segmentation
from qanas.tasks.turbofan import Turbofan
from qanas.training.pretrained import load_weights

PATIENCE_S = 20
BAD_INPUT = 2
USERS = Path(__file__).with_name("mine.py")
FORKED = mp.get_context("forkserver")

Mutate = Callable[[random.Random, Path], str]
"""Writes a mutated input into a folder that holds the sound one; returns what was done."""
Read = Callable[[Path], None]
RunLine = Callable[[list[str], Path, Path], int | None]
"""Runs a command line in a folder, what it says on stderr into a file; the exit code, None where it hangs."""

ODD = ("", " ", "-1", "0", "1e400", "nan", "inf", "9" * 40, "1.5.2", "\x00", "ä", "[]", "{}", "true", "'", '"', "=",
       "..", "/dev/null", "%s", "$HOME", "None", "0x1F", "1_000", "-0", "\ufeff", "a" * 5000)  # fmt: skip


@dataclass
class Row:
    """What one kind of input came to.

    Attributes:
        kind: of the input.
        tried: inputs.
        taken: without a word.
        refused: in one line.
        distinct: different inputs that were refused.
        tracebacks: anything else.
        touched: inputs of which a file was changed.
        hung: without an answer.
        notes: what was bad.
    """

    kind: str
    tried: int = 0
    taken: int = 0
    refused: int = 0
    distinct: int = 0
    tracebacks: int = 0
    touched: int = 0
    hung: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def bad(self) -> int:
        """What must not be."""
        return self.tracebacks + self.touched + self.hung


class HungError(BaseException):
    """No answer; no `Exception`, so that nobody catches it on the way."""


@contextmanager
def patience() -> Iterator[None]:
    """Raise where what is inside takes too long."""

    def give_up(number: int, frame: object) -> None:
        raise HungError(number, frame)

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return the time and content of every file."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def bytes_mutated(content: bytes, generator: random.Random) -> bytes:
    """Change a few bytes, cut, double, empty or zero a part."""
    first, last = sorted(generator.randrange(len(content) + 1) for _ in range(2))
    match generator.randrange(6):
        case 0:
            return content[:first] + content[last:]
        case 1:
            return content[:last] + content[first:]
        case 2:
            return content[:first] + bytes(last - first) + content[last:]
        case 3:
            return content[:first]
        case _:
            changed = bytearray(content or b"x")
            for _ in range(generator.randrange(1, 9)):
                changed[generator.randrange(len(changed))] = generator.randrange(256)
            return bytes(changed)


def words_mutated(content: bytes, generator: random.Random) -> bytes:
    """Change words, lines and their order in a text of numbers."""
    lines = content.decode("latin-1").split("\n")
    for _ in range(generator.randrange(1, 4)):
        place = generator.randrange(len(lines))
        words = lines[place].split(" ")
        match generator.randrange(5):
            case 0:
                words[generator.randrange(len(words))] = generator.choice(ODD)
            case 1:
                words = words[: generator.randrange(len(words) + 1)]
            case 2:
                words += [generator.choice(ODD)]
            case 3:
                other = generator.randrange(len(lines))
                lines[place], lines[other] = lines[other], lines[place]
                continue
            case _:
                del lines[place]
                lines = lines or [""]
                continue
        lines[place] = " ".join(words)
    return "\n".join(lines).encode("utf-8", "replace")


def one_file_mutated(generator: random.Random, folder: Path) -> str:
    """Mutate one file of a folder, by its bytes, or remove it, or put a folder in its place."""
    path = generator.choice([path for path in sorted(folder.rglob("*")) if path.is_file()])
    way = generator.randrange(20)
    if way == 0:
        path.unlink()
        return f"{path.name} is missing"
    if way == 1:
        path.unlink()
        path.mkdir()
        return f"{path.name} is a folder"
    by_words = path.suffix == ".txt" and way % 2
    path.write_bytes((words_mutated if by_words else bytes_mutated)(path.read_bytes(), generator))
    return path.name


# ---------------------------------------------------------------- sound inputs


def write_engines(folder: Path) -> None:
    """Write three engines of 40 cycles."""
    rows = [
        f"{engine} {cycle} 0.1 0.2 100 " + " ".join(str(sensor + cycle / 7) for sensor in range(21))
        for engine in (1, 2, 3)
        for cycle in range(1, 41)
    ]
    for name, lines in (("train", rows), ("test", rows), ("RUL", ["1", "2", "3"])):
        (folder / f"{name}_FD001.txt").write_text("\n".join(lines) + "\n", "ascii")


def write_images(folder: Path) -> None:
    """Write images of 12 x 12 pixels, as PNG, JPEG, BMP and deep TIFF, with masks."""
    generator = np.random.default_rng(0)
    for split, suffixes in (("train", (".png", ".jpg", ".bmp")), ("val", (".png",)), ("test", (".png",))):
        for part in (split, f"{split}annot"):
            (folder / part).mkdir()
        for number, suffix in enumerate(suffixes):
            picture = generator.integers(0, 256, (12, 12, 3)).astype(np.uint8)
            Image.fromarray(picture).save(folder / split / f"{number}{suffix}")
            mask = generator.integers(0, 2, (12, 12)).astype(np.uint8)
            Image.fromarray(mask).save(folder / f"{split}annot" / f"{number}.png")


def write_archive(folder: Path) -> None:
    """Write samples of a network with one input."""
    samples = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    for name, save in (("x.npz", np.savez), ("packed.npz", np.savez_compressed)):
        file = io.BytesIO()
        save(file, x=samples, y=samples[:, 0])
        (folder / name).write_bytes(file.getvalue())


def write_weights(folder: Path) -> None:
    """Write a state dict in three formats."""
    weights = nn.Linear(3, 2).state_dict()
    save_file(weights, folder / "w.safetensors")
    torch.save(weights, folder / "w.pt")
    torch.save({"state_dict": weights, "epoch": 3}, folder / "w.ckpt")


RECIPE: dict[str, dict[str, Any]] = {
    "task": {"name": "mine:MyTask"},
    "space": {"name": "mine:MySpace", "search": ["architecture", "training"]},
    "strategy": {"name": "tpe", "trials": 3, "startup_trials": 2, "max_rejected": 50},
    "estimation": {"name": "training", "epochs": 1, "jobs": 1, "qat_epochs": 0},
    "quantization": {"scheme": "int8"},
    "objectives": {"accuracy_quantized": "maximize", "weight_bytes": "minimize"},
    "limits": {"weight_bytes": 400, "macs": 1000},
    "finalists": {"count": 1, "seeds": 1, "epochs": 1},
    "device": {"name": "host"},
    "run": {"seed": 0},
}


def write_recipe(folder: Path) -> None:
    """Write a recipe beside the user's module."""
    (folder / "mine.py").write_bytes(USERS.read_bytes())
    (folder / "r.toml").write_text(tomli_w.dumps(RECIPE), "utf-8")


# ---------------------------------------------------------------- sound files of unsound content

DTYPES = ("f2", "f4", "f8", "i1", "u1", "i4", "i8", "u2", "?", "c8", "U3", "S2", "O", "M8[s]")
SHAPES = ((), (0,), (3,), (6, 3), (6, 4), (6, 3, 1), (1, 3), (0, 3), (6, 0), (2, 3, 4, 5), (7, 3))


def odd_array(generator: random.Random) -> np.ndarray[Any, Any]:
    """Return an array of any type and shape, some with values that are not finite."""
    shape = generator.choice(SHAPES)
    values = np.random.default_rng(generator.randrange(99)).normal(size=shape) * generator.choice([1, 1e30, 0, 50])
    if values.size and generator.random() < 0.2:  # noqa: PLR2004 - a share
        values.flat[0] = generator.choice([np.nan, np.inf])
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = np.asarray(values).astype(generator.choice(DTYPES))
    return np.asfortranarray(array) if generator.random() < 0.1 else array  # noqa: PLR2004


def archive_mutated(generator: random.Random, folder: Path) -> str:
    """Mutate the bytes of an archive, or what is in it."""
    if generator.random() < 0.5:  # noqa: PLR2004 - a share
        return one_file_mutated(generator, folder)
    names = generator.sample(["x", "y", "x ", "", "../x", "arr_0", "ä"], generator.randrange(4))
    arrays = {name: odd_array(generator) for name in names}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array)
            content = member.getvalue()
            odd = generator.random() < 0.2  # noqa: PLR2004
            archive.writestr(f"{name}.npy", bytes_mutated(content, generator) if odd else content)
    (folder / "x.npz").write_bytes(file.getvalue())
    return str({name: (array.dtype.str, array.shape) for name, array in arrays.items()})


def weights_mutated(generator: random.Random, folder: Path) -> str:
    """Mutate the bytes of a file, or what is in it."""
    if generator.random() < 0.5:  # noqa: PLR2004 - a share
        return one_file_mutated(generator, folder)
    keys: list[Any] = generator.sample(["weight", "bias", "module.weight", "a.b", "", 3, ("a",), None], 3)
    kinds = [torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.complex64, torch.bool, torch.float64]
    made: dict[Any, Any] = {}
    for key in keys:
        tensor = torch.zeros(generator.choice(SHAPES[:-1]) or (2, 3), dtype=generator.choice(kinds))
        made[key] = generator.choice([tensor, tensor, torch.zeros(2, 3), torch.zeros(2), 3, "x", None, [tensor]])
    whole = generator.choice([made, {"state_dict": made}, [made], made.get("weight"), {"model": {"x": made}}, 7])
    torch.save(whole, folder / generator.choice(["w.pt", "w.ckpt"]))
    return str(whole)[:200]


MODES = ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "LA", "HSV", "YCbCr")


def images_mutated(generator: random.Random, folder: Path) -> str:
    """Mutate the bytes of a picture, or put another one in its place."""
    if generator.random() < 0.4:  # noqa: PLR2004 - a share
        return one_file_mutated(generator, folder)
    path = generator.choice([path for path in sorted(folder.rglob("*")) if path.is_file()])
    mode, size = generator.choice(MODES), generator.choice([(12, 12), (12, 12), (1, 1), (12, 13), (400, 3)])
    image = Image.new(mode, size, generator.choice([0, 1]) if len(mode) < 3 or mode == "I;16" else None)  # noqa: PLR2004
    written = generator.choice(["PNG", "TIFF", "GIF", "BMP", "JPEG", "WEBP"])
    with contextlib.suppress(OSError, ValueError, KeyError):  # not every format has every mode
        image.save(path, written)
    return f"{path.parent.name}/{path.name} {mode} {size} {written}"


# ---------------------------------------------------------------- what reads them


def read_engines(folder: Path) -> None:
    """Load them as a task does."""
    Turbofan(str(folder), window=10).load()


def read_images(folder: Path) -> None:
    """Load them as a task does."""
    Segmentation(str(folder), dataset="folders", classes=("a", "b"), height=12, width=12).load()


@contextmanager
def named_where_refused(path: Path) -> Iterator[None]:
    """Hold that what refuses a file names it."""
    try:
        yield
    except InputError as error:
        if str(path) not in str(error):
            raise AssertionError(f"names no file: {error}") from error
        raise


def read_archive(folder: Path) -> None:
    """Read each archive as export does."""
    for path in sorted(folder.glob("*.npz")):
        with named_where_refused(path):
            samples, _ = Samples.read(path, "x").of(Arguments.of(nn.Linear(3, 2)))
            assert all(np.isfinite(values).all() for values in samples.values())


def read_weights(folder: Path) -> None:
    """Load each file into a network."""
    for path in sorted(folder.glob("w.*")):
        with named_where_refused(path):
            load_weights(nn.Linear(3, 2), path)


def read_recipe(folder: Path) -> None:
    """Turn it into a plan."""
    load_plan(folder / "r.toml")


def recipe_mutated(generator: random.Random, folder: Path) -> str:
    """Change what a recipe means; or its bytes."""
    path = folder / "r.toml"
    if generator.random() < 0.3:  # noqa: PLR2004 - a share
        path.write_bytes(bytes_mutated(path.read_bytes(), generator))
        return "bytes"
    key, value = assignment(generator)
    content: dict[str, Any] = {name: {**table} for name, table in RECIPE.items()}
    table, _, name = key.partition(".")
    match generator.randrange(4):
        case 0 if name in content[table]:
            del content[table][name]
            text = tomli_w.dumps(content)
        case 1:
            del content[table]
            text = tomli_w.dumps(content)
        case 2:
            content[generator.choice(list(ODD[:20])) or "x"] = content.pop(table)
            text = tomli_w.dumps(content)
        case _:
            content[table][name] = "\x01"
            text = tomli_w.dumps(content).replace('"\\u0001"', value)
    path.write_bytes(text.encode("utf-8", "replace"))
    return f"{key} = {value[:40]}"


NAMES = (
    *("name", "trials", "hours", "epochs", "jobs", "seeds", "count", "cache", "device", "weights", "scheme", "layers"),
    *("search", "seed", "steps", "bits", "data", "window", "weight_bytes", "latency_ms", "latency_ms@x", "accuracy"),
    *("qat_epochs", "batch", "start", "max_rejected", "population_size", "container"),
)
VALUES = (
    *("-1", "0", "1.5", "1e308", "nan", "inf", "true", "[]", "{}", "9223372036854775808", "1979-05-27", "[[]]", "-0.0"),
    *("0x10", "[nan]", "00", "$", "[1", '"', '""', '"x"', '"mine:MyTask"', '"mine:Nothing"', '"nowhere:X"', "[1, 2]"),
    *('["x"]', "{a = 1}", '"maximize"', '"a b"', '"\\u0000"', '"../.."', '"' + "x" * 3000 + '"', '"tpee"', "''"),
)


def assignment(generator: random.Random) -> tuple[str, str]:
    """Return a key of a recipe and a value that is wrong for most."""
    table = generator.choice(list(RECIPE))
    name = generator.choice([*RECIPE[table], *generator.sample(NAMES, 2)])
    return f"{table}.{name}", generator.choice(VALUES)


@dataclass(frozen=True)
class InProcess:
    """Inputs that are read in this process.

    Attributes:
        write: the sound input.
        mutate: it.
        read: it.
    """

    write: Callable[[Path], None]
    mutate: Mutate
    read: Read

    def run(self, row: Row, count: int, home: Path) -> None:
        """Mutate and read."""
        sound, folder = home / "sound", home / "case"
        sound.mkdir()
        self.write(sound)
        self.read(sound)
        seen = set()
        for number in range(count):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(sound, folder)
            note = self.mutate(random.Random(number), folder)  # noqa: S311 - test data
            before = state(folder)
            outcome = self._outcome(folder)
            row.tried += 1
            setattr(row, outcome[0], getattr(row, outcome[0]) + 1)
            row.touched += state(folder) != before
            if outcome[0] == "refused":
                seen.add(hash(str({name: content for name, (_, content) in before.items()})))
            elif outcome[0] != "taken":
                row.notes.append(f"{row.kind} {number} ({note}): {outcome[1]}")
        row.distinct = len(seen)

    def _outcome(self, folder: Path) -> tuple[str, str]:
        try:
            with patience():
                self.read(folder)
        except (InputError, NotShippedError) as error:
            return ("refused", "") if str(error).strip() and "\n" not in str(error) else ("tracebacks", "no one line")
        except HungError:
            return "hung", ""
        except BaseException as error:  # noqa: BLE001 - that is what is looked for
            frame = traceback.extract_tb(error.__traceback__)[-1]
            return "tracebacks", f"{type(error).__name__}: {error} ({Path(frame.filename).name}, {frame.lineno})"
        return "taken", ""


# ---------------------------------------------------------------- command lines


def command_line(generator: random.Random, folder: Path) -> list[str]:
    """Return a command line, most of them bad; what it names lies in the folder."""
    recipe, run, nothing = str(folder / "r.toml"), str(folder / "run"), str(folder / "nothing")
    place = generator.choice([recipe, nothing, str(folder), run, *generator.sample(ODD, 2)])
    number = generator.randrange(8)
    if number in {0, 1, 2}:
        sets = [
            f"--set={key}={value}" for key, value in (assignment(generator) for _ in range(generator.randrange(1, 3)))
        ]
        return [generator.choice(["check", "run"]), recipe, *sets, *(["--out", nothing] if number == 0 else [])]
    if number == 3:  # noqa: PLR2004 - a kind
        return ["pick", place, "--limit", f"{generator.choice(NAMES)}{generator.choice('=<:')}{generator.choice(ODD)}"]
    if number == 4:  # noqa: PLR2004
        return [generator.choice(["report", "verify", "check", "pick", "run"]), place]
    if number == 5:  # noqa: PLR2004
        return ["compare", place, generator.choice([nothing, run, recipe]), "--score", generator.choice(ODD)]
    if number == 6:  # noqa: PLR2004
        network = generator.choice(
            ["mine:MySpace", "mine", "mine:nothing", "nowhere:x", ":", *generator.sample(ODD, 2)]
        )
        more = generator.choice([[], ["--format", "x"], ["--set", "a"], ["--scheme", "y"], ["--set", "weight_bits=99"]])
        return ["export", network, "--calibration", place, "--out", str(folder / "m.tflite"), *more]
    words = ["run", "check", "--set", "--out", "--bogus", "-x", "export", "devices", "pick", *generator.sample(ODD, 3)]
    return generator.sample(words, generator.randrange(1, 5))


def be_the_command(arguments: list[str], folder: Path, said: Path) -> None:
    """Run the command line in this process."""
    os.chdir(folder)
    for number, path in ((0, os.devnull), (1, os.devnull), (2, str(said))):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w", encoding="utf-8"), os.fdopen(2, "w", encoding="utf-8")
    sys.argv = ["qanas", *arguments]
    sys.path.insert(0, str(folder))
    cli.main()


def forked(arguments: list[str], folder: Path, said: Path) -> int | None:
    """Run a command line in a process that has imported what the command imports; its exit code, None if it hangs."""
    process = FORKED.Process(target=be_the_command, args=(arguments, folder, said))
    process.start()
    process.join(6 * PATIENCE_S)
    if process.exitcode is None:
        process.kill()
    return process.exitcode


def installed(command: Path, arguments: list[str], folder: Path, said: Path) -> int | None:
    """Run a command line by the installed script; its exit code, None if it hangs."""
    with said.open("wb") as file, contextlib.suppress(subprocess.TimeoutExpired):
        nothing = subprocess.DEVNULL
        done = subprocess.run(  # noqa: S603 - ours
            [command, *arguments], cwd=folder, stdin=nothing, stdout=nothing, stderr=file, check=False, timeout=600
        )
        return done.returncode
    return None


def command_lines(row: Row, count: int, home: Path, run: RunLine = forked) -> Iterator[None]:
    """Run command lines; those that are refused have to say why in one line. Goes on from `Row.tried`."""
    FORKED.set_forkserver_preload(["qanas.workflows.run", "qanas.workflows.check", "qanas.exporting.export", "sympy"])
    folder, said = home / "case", home / "said"
    folder.mkdir()
    write_recipe(folder)
    write_archive(folder)
    before = state(folder)
    lines = [command_line(random.Random(number), folder) for number in range(count)]  # noqa: S311 - test data
    # No shell can pass the character 0.
    lines = [[argument.replace("\x00", "\x01") for argument in arguments] for arguments in lines]
    for number in range(row.tried, count):
        arguments = lines[number]
        code = run(arguments, folder, said)
        row.tried += 1
        words = said.read_text("utf-8", "replace")
        if code is None:
            row.hung += 1
            row.notes.append(f"hung: {arguments}")
        elif code == BAD_INPUT and words.count("\n") == 1 and len(words) > 1:
            row.refused += 1
            row.distinct += arguments not in lines[:number]
        elif (code in {0, 1} and "Traceback" not in words) or not arguments:
            row.taken += 1
        else:
            row.tracebacks += 1
            row.notes.append(f"{code} {arguments}: {words[-300:]}")
        made = set(state(folder)) - set(before)
        for name in ("nothing", "runs", "run", "m.tflite", "compare.html"):  # where good ones write
            if any(path.startswith(name) for path in made):
                made = {path for path in made if not path.startswith(name)}
                shutil.rmtree(folder / name, ignore_errors=True)
                (folder / name).unlink(missing_ok=True)
        after = {name: content for name, content in state(folder).items() if name in before}
        if after != before or made:
            row.touched += 1
            row.notes.append(f"touched {sorted(made)[:2]}: {arguments}")
        yield


KINDS: dict[str, tuple[int, InProcess | None]] = {
    "engines": (1300, InProcess(write_engines, one_file_mutated, read_engines)),
    "images": (800, InProcess(write_images, images_mutated, read_images)),
    "calibration": (700, InProcess(write_archive, archive_mutated, read_archive)),
    "weights": (800, InProcess(write_weights, weights_mutated, read_weights)),
    "recipes": (1000, InProcess(write_recipe, recipe_mutated, read_recipe)),
    "command lines": (400, None),
}


def table(rows: list[Row]) -> str:
    """Return the rows as text."""
    names = ("tried", "taken", "refused", "distinct", "tracebacks", "touched", "hung")
    total = Row("all", **{name: sum(getattr(row, name) for row in rows) for name in names})
    lines = [f"{'input':16}" + "".join(f"{name:>11}" for name in names)]
    lines += [f"{row.kind:16}" + "".join(f"{getattr(row, name):>11}" for name in names) for row in [*rows, total]]
    notes = Counter(note.partition("): ")[2] or note for row in rows for note in row.notes)
    first = {note.partition("): ")[2] or note: note for row in reversed(rows) for note in reversed(row.notes)}
    return "\n".join([*lines, *(f"{times} x {first[note]}" for note, times in notes.most_common(40))])


def by_the_script(command: Path, share: float, kept: Path | None) -> Row:
    """Run command lines by the installed script, going on with a row that was kept."""
    row = Row("the installed command")
    if kept and kept.is_file():
        row = Row(**json.loads(kept.read_text("utf-8"))[0])
    count = max(1, round(KINDS["command lines"][0] * share))
    with tempfile.TemporaryDirectory(prefix="fuzz-") as home:
        for _ in command_lines(row, count, Path(home), partial(installed, command)):
            if kept:
                kept.write_text(json.dumps([vars(row)], indent=2) + "\n", "utf-8")
    return row


def main() -> None:
    """Print the table; exit with 1 where anything was bad."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--only", action="append", choices=list(KINDS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--installed", type=Path, help="run command lines by this script, and nothing else")
    arguments = parser.parse_args()
    if arguments.installed:
        row = by_the_script(arguments.installed.absolute(), arguments.share, arguments.json)
        print(table([row]))
        sys.exit(bool(row.bad))
    rows = []
    for kind in arguments.only or KINDS:
        count, inputs = KINDS[kind]
        row = Row(kind)
        with tempfile.TemporaryDirectory(prefix="fuzz-") as home:
            count = max(1, round(count * arguments.share))
            if inputs:
                inputs.run(row, count, Path(home))
            else:
                deque(command_lines(row, count, Path(home)), maxlen=0)
        rows.append(row)
        print(table([row]), flush=True)
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps([vars(row) for row in rows], indent=2) + "\n", "utf-8")
    sys.exit(any(row.bad for row in rows))


if __name__ == "__main__":
    main()
