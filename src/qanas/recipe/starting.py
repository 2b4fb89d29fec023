"""A first recipe for a folder of data: what is in it, and what is sensible to begin with."""

from __future__ import annotations

import collections
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from qanas.core.errors import InputError
from qanas.tasks.audio.reader import SOUND_SUFFIXES
from qanas.tasks.folders import all_files, visible_folders
from qanas.tasks.pictures import IMAGE_SUFFIXES
from qanas.tasks.tables import TABLE_SUFFIXES, read_table

Kind = Literal["anomaly", "segmentation", "images", "audio", "timeseries"]

LOOKED_AT = 64
"""Files, spread over the folder, whose sizes, rates and lengths are read."""

SIDES = (32, 48, 64, 96)
SMALL_SIDE = 48
"""Up to here ResNet8 is the reference, made for such images; MobileNetV1 above."""

RATES = (8000, 16000)
LONGEST_CLIP = 2.0
TIME_COLUMNS = ("time", "timestamp", "date", "datetime", "t", "seconds")
WINDOWS = (16, 24, 32, 50, 64)
TRIALS, EPOCHS = 30, 15


@dataclass(frozen=True)
class Beginning:
    """What a recipe begins with.

    Attributes:
        task: its table's keys, written as TOML, each with a comment or none.
        space: likewise.
        score: the objective.
        better: which way.
        seen: what the files are like, a line each.
    """

    task: Mapping[str, tuple[str, str]]
    space: Mapping[str, tuple[str, str]]
    score: str
    better: str
    seen: Sequence[str] = field(default_factory=list)


def first_recipe(folder: Path, device: str, target: str | None) -> tuple[str, Sequence[str]]:
    """Return a recipe for a folder, and what its files are like.

    Args:
        folder: with the data.
        device: that the networks are for.
        target: of tables: the column that is to be predicted.

    Raises:
        InputError: it holds nothing that a task takes.
    """
    kind, files = _kind(folder)
    if target is not None and kind != "timeseries":
        raise InputError(f"--target: {folder} holds {kind}, not tables; leave it out")
    found = _tables(folder, files, target) if kind == "timeseries" else _RECORDED[kind](files)
    tables = {
        "task": {"name": (f'"{kind}"', ""), "data": (json.dumps(str(folder.resolve())), ""), **found.task},
        "space": {**found.space, "search": ('["input", "architecture", "training", "quantization"]',
                                            "leave some out to keep the reference's")},
        "device": {"name": (json.dumps(device), "its flash and RAM are limits; qanas devices lists them")},
        "strategy": {"name": ('"tpe"', "or random, nsga2, gp"), "trials": (str(TRIALS), "")},
        "estimation": {"epochs": (str(EPOCHS), "of a trial")},
        "objectives": {
            found.score: (json.dumps(found.better), ""), "file_bytes": ('"minimize"', "or latency_ms, arena_bytes"),
        },
        "finalists": {"count": ("4", "front points that are trained anew"), "seeds": ("2", "how often each")},
        "run": {"seed": ("0", "")},
    }  # fmt: skip
    if kind in {"anomaly", "images", "audio", "timeseries"}:
        tables["task"]["# group_pattern"] = (
            "'_(s[0-9]+)_'",
            "what of a file's path tells a person, say: each stays in one split",
        )
    lines = [f"# {folder.name}: a beginning, written by qanas new; change what you know better (docs/recipes.md)."]
    for table, keys in tables.items():
        lines.append(f"[{table}]")
        lines += [f"{key} = {value}{f'    # {told}' if told else ''}" for key, (value, told) in keys.items()]
        lines.append("")
    return "\n".join(lines), found.seen


def _kind(folder: Path) -> tuple[Kind, list[Path]]:
    """Return what a folder holds most of, and those files."""
    if not folder.is_dir():
        reason = "is not a folder" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {reason}; name the folder of your data")
    if (folder / "train").is_dir() and (folder / "trainannot").is_dir():
        return "segmentation", all_files(folder / "trainannot")
    by_kind: dict[Kind, list[Path]] = collections.defaultdict(list)
    suffixes: dict[Kind, tuple[str, ...]] = {
        "images": IMAGE_SUFFIXES, "audio": SOUND_SUFFIXES, "timeseries": TABLE_SUFFIXES,
    }  # fmt: skip
    for path in all_files(folder):
        for kind, ends in suffixes.items():
            if path.name.lower().endswith(ends):
                by_kind[kind].append(path)
    if not by_kind:
        known = ", ".join(suffix for ends in suffixes.values() for suffix in ends)
        raise InputError(f"{folder} holds no file that a task takes ({known})")
    # A table of labels lies beside what it labels.
    kinds = sorted(by_kind, key=lambda kind: (kind == "timeseries", -len(by_kind[kind])))
    kind = kinds[0]
    normal = any(path.parent.name == "normal" for path in by_kind["audio"])
    return "anomaly" if kind == "audio" and normal else kind, by_kind[kind]


def _looked_at(files: Sequence[Path]) -> list[Path]:
    places = np.unique(np.linspace(0, len(files) - 1, min(LOOKED_AT, len(files))).round().astype(int))
    return [files[place] for place in places]


def _pictures(files: Sequence[Path]) -> Beginning:
    sizes, colours = [], set()
    for path in _looked_at(files):
        try:
            with Image.open(path) as image:
                sizes.append(min(image.size))
                colours.add(image.mode)
        except OSError:
            continue  # the task tells which is damaged
    side = float(np.median(sizes)) if sizes else SIDES[-1]
    size = max([known for known in SIDES if known <= side], default=SIDES[0])
    grey = colours <= {"L", "1", "I;16"} and bool(colours)
    space = {"name": ('"resnet"', "around ResNet8")} if size <= SMALL_SIDE else {
        "name": ('"mobilenet"', ""), "reference": ('"mobilenet_v1_0.25"', "docs/spaces.md has others"),
    }  # fmt: skip
    if size > SMALL_SIDE:
        space |= {"kernels": ("[3, 5]", "")}
    told = f"{len(files):,} pictures, the shorter side {min(sizes, default=0)} to {max(sizes, default=0)} pixels"
    return Beginning(
        {"size": (str(size), "pixels of a side that the network sees"),
         "colour": ('"grey"' if grey else '"rgb"', ""),
         "class_weights": ('"balanced"', "rare classes count as much as common ones")},
        space, "balanced_accuracy_quantized", "maximize", [told],
    )  # fmt: skip


def _recordings(files: Sequence[Path]) -> Beginning:
    import soundfile

    rates: collections.Counter[int] = collections.Counter()
    lengths = []
    for path in _looked_at(files):
        try:
            info = soundfile.info(str(path))
        except (OSError, RuntimeError):
            continue  # the task tells which is damaged
        rates[info.samplerate] += 1
        lengths.append(info.duration)
    most = rates.most_common(1)[0][0] if rates else RATES[-1]
    rate = max([known for known in RATES if known <= most], default=RATES[0])
    seconds = min(LONGEST_CLIP, round(float(np.median(lengths)), 2) if lengths else 1.0)
    shortest, longest = min(lengths, default=0.0), max(lengths, default=0.0)
    told = f"{len(files):,} recordings of {shortest:.2f} to {longest:.2f} s, most at {most} Hz"
    return Beginning(
        {"sample_rate": (str(rate), "of the device's microphone"),
         "seconds": (f"{max(seconds, 0.1)}", "of a clip; longer recordings are cut"),
         "class_weights": ('"balanced"', "rare classes count as much as common ones")},
        {"name": ('"ds_cnn"', "around MLPerf Tiny's keyword spotter")},
        "balanced_accuracy_quantized", "maximize", [told],
    )  # fmt: skip


def _anomalies(files: Sequence[Path]) -> Beginning:
    heard = _recordings(files)
    task = {name: heard.task[name] for name in ("sample_rate", "seconds")}
    task["normal"] = ('"normal"', "the label that is trained on; all others are anomalies")
    return Beginning(task, {"name": ('"autoencoder"', "")}, "auc_quantized", "maximize", heard.seen)


def _tables(folder: Path, files: Sequence[Path], target: str | None) -> Beginning:
    tables = [read_table(path) for path in _looked_at(files)[:8]]
    names = tables[0].columns
    rows = [len(table) for table in tables]
    labelled = any(visible_folders(folder)) or (folder / "labels.csv").is_file()
    if target is None and not labelled:
        raise InputError(
            f"{folder} holds tables without a folder a class: name what is to be predicted, --target COLUMN; there are "
            f"{', '.join(names)}"
        )
    if target is not None and target not in names:
        raise InputError(f"--target: {files[0]} has no column {target}; there are {', '.join(names)}")
    window = max([size for size in WINDOWS if size <= min(rows) // 3], default=WINDOWS[0])
    time = next((name for name in names if name.lower() in TIME_COLUMNS), None)
    task = {"window": (str(window), "rows that the network sees"), "hop": (str(max(1, window // 4)), "to the next one")}
    if target is not None:
        number = tables[0].is_numeric(target)
        task |= {"target": (json.dumps(target), ""), "predict": ('"number"' if number else '"class"', "")}
    else:
        number = False
    if time is not None:
        task |= {"time": (json.dumps(time), "no window reaches over a gap")}
    told = f"{len(files):,} tables of {min(rows):,} to {max(rows):,} rows, columns {', '.join(names)}"
    space = {"name": ('"tcn"', "or lstm, gru, conv1d")}
    if number:
        return Beginning(task, space, "mae_quantized", "minimize", [told])
    return Beginning(task, space, "balanced_accuracy_quantized", "maximize", [told])


def _masks(files: Sequence[Path]) -> Beginning:
    found: set[int] = set()
    sizes = []
    for path in _looked_at(files):
        try:
            with Image.open(path) as mask:
                sizes.append(mask.size)
                found |= set(np.unique(np.asarray(mask)).tolist())
        except OSError:
            continue
    ids = [label for label in sorted(found) if label != 255]  # noqa: PLR2004 - void, or the second of two classes
    count = max(2, (max(ids) + 1) if ids else 2)
    names = ["background", *(f"class_{number}" for number in range(1, count))]
    width, height = (int(v) for v in np.median(np.array(sizes or [(128, 128)]), axis=0))
    scale = min(1.0, 160 / max(width, height))
    height, width = (max(32, 8 * round(pixels * scale / 8)) for pixels in (height, width))
    return Beginning(
        {"dataset": ('"folders"', ""), "classes": (json.dumps(names), "name them in the order of the masks' numbers"),
         "height": (str(height), ""), "width": (str(width), ""),
         "class_weights": ('"balanced"', "rare classes count as much as common ones")},
        {"name": ('"deeplabv3"', "docs/block-wise.md searches it block by block"), "width": ("0.25", "")},
        "miou_quantized", "maximize",
        [f"{len(files):,} masks, with numbers {', '.join(map(str, sorted(found)))}"],
    )  # fmt: skip


_RECORDED: Mapping[str, Callable[[Sequence[Path]], Beginning]] = {
    "anomaly": _anomalies,
    "audio": _recordings,
    "images": _pictures,
    "segmentation": _masks,
}
"""Of files that need no further word from their user."""
