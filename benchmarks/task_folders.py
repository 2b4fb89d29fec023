"""Lay out published sets of data as folders that `qanas new` and `qanas run` take, each with a test part of its own.

    python benchmarks/task_folders.py $QANAS_DATA /data/folders            # all of them
    python benchmarks/task_folders.py $QANAS_DATA /data/folders keywords   # one

Nothing is chosen by a result: who is tested on follows from the sets' own descriptions (persons, cells, loads, time).
What the descriptions hold out for others isn't at hand, so test parts are taken from what is there.

keywords: the six speakers whom the set calls val are tested on, the 18 others stay for training and validation.
shoulder: persons 7 and 8 of eight are tested on, 5 and 6 validate.
bearing: load 2 is tested on, load 1 validates; the one normal recording is cut in time: 70, 13 and 13 %, gaps between.
cells: a table a cell; of each way of charging every fifth is tested on, and every fifth validates.
transformer: one table as it is, its last part is tested on.
cifar10: the first 5,000 pictures are trained on, the set's val files validate with 2,000, 3,000 of its last training
files are tested on.
cracks: photos by number, 001 to 060 train, 061 to 075 validate, 076 to 094 test,
at half their size, 240 x 160.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import shutil
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

LABELS = ("file", "label", "group", "split")
SHOULDER_SPLITS = {"5": "val", "6": "val", "7": "test", "8": "test"}
SHOULDER_RATE_HZ = 50
SHOULDER_CHANNELS = ("ax", "ay", "az", "wx", "wy", "wz")
BEARING_SPLITS = {"0": "train", "1": "val", "2": "test"}
BEARING_RATE_HZ = 12000
NORMAL_PARTS = {"train": (0.0, 0.70), "val": (0.72, 0.85), "test": (0.87, 1.0)}
CELL_SPLITS = ("test", "train", "val", "train", "train")
CIFAR10_PARTS = {"train": ("train", 0, 5_000), "val": ("val", 0, 2_000), "test": ("train", 42_000, 45_000)}
CRACK_PARTS = {"train": range(1, 61), "val": range(61, 76), "test": range(76, 95)}
VOID = 255
CRACK_SIZE = (240, 160)


def write_labels(folder: Path, rows: Iterable[tuple[str, str, str, str]]) -> None:
    """Write the table of files: file, label, group, split."""
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([LABELS, *rows])


def rows_of(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table of text."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def keywords(source: Path, folder: Path) -> None:
    """Recordings of nine labels, by speaker."""
    with tarfile.open(source / "keywords_arabic" / "keywords_arabic.tar.xz") as archive:
        archive.extractall(folder.parent, filter="data")
    (folder.parent / "keywords_arabic").rename(folder)
    clips = rows_of(folder / "clips.csv")
    (folder / "clips.csv").unlink()
    splits = {"train": "train", "val": "test"}
    speakers = sorted({row["speaker"] for row in clips if row["split"] == "train"})
    validating = set(speakers[::4])
    rows = []
    for row in clips:
        split = "val" if row["speaker"] in validating else splits[row["split"]]
        rows.append((row["file"], row["label"], row["speaker"], split))
    write_labels(folder, rows)


def shoulder(source: Path, folder: Path) -> None:
    """Movements of a watch, a table a series, by person."""
    series = np.load(source / "imu_shoulder_watch" / "imu_shoulder_watch.npz")
    rows = []
    for row in rows_of(source / "imu_shoulder_watch" / "series.csv"):
        values = series[row["key"]]
        seconds = np.arange(len(values)) / SHOULDER_RATE_HZ
        name = f"{row['key']}.csv"
        np.savetxt(
            folder / name,
            np.column_stack([seconds, values]),
            fmt=["%.2f"] + ["%.6g"] * len(SHOULDER_CHANNELS),
            delimiter=",",
            header=",".join(("time", *SHOULDER_CHANNELS)),
            comments="",
        )
        rows.append((name, row["label"], row["subject"], SHOULDER_SPLITS.get(row["subject"], "train")))
    write_labels(folder, rows)


def bearing(source: Path, folder: Path) -> None:
    """Vibrations as recordings, ten classes, by the motor's load."""
    recordings = np.load(source / "bearing_cwru" / "bearing_cwru.npz")
    rows = []
    for row in rows_of(source / "bearing_cwru" / "recordings.csv"):
        values = recordings[row["key"]]
        cuts: Mapping[str, tuple[float, float]] = {BEARING_SPLITS.get(row["load_hp"], "train"): (0.0, 1.0)}
        if row["class"].lower().startswith("normal"):
            cuts = NORMAL_PARTS
        for split, (first, last) in cuts.items():
            name = f"{row['key']}_{split}.wav"
            part = values[int(first * len(values)) : int(last * len(values))]
            soundfile.write(folder / name, part, BEARING_RATE_HZ, subtype="PCM_16")
            rows.append((name, row["class"], f"{row['key']}_{split}", split))
    write_labels(folder, rows)


def cells(source: Path, folder: Path) -> None:
    """Charge cycles of batteries, a table a cell, by cell."""
    with gzip.open(source / "battery_xjtu" / "battery_xjtu.csv.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["cell"] for row in rows})
    split_of = {}
    for way in sorted({name.split("_")[0] for name in names}):
        for place, name in enumerate(name for name in names if name.split("_")[0] == way):
            split_of[name] = CELL_SPLITS[place % len(CELL_SPLITS)]
    for name in names:
        part = folder / split_of[name]
        part.mkdir(exist_ok=True)
        own = [row for row in rows if row["cell"] == name]
        with (part / f"{name}.csv").open("w", newline="", encoding="utf-8") as table:
            writer = csv.DictWriter(table, [column for column in own[0] if column != "cell"])
            writer.writeheader()
            writer.writerows({key: value for key, value in row.items() if key != "cell"} for row in own)


def transformer(source: Path, folder: Path) -> None:
    """Hourly loads and the oil's temperature, one table."""
    with gzip.open(source / "ett_hourly" / "ETTh1.csv.gz") as file, (folder / "ETTh1.csv").open("wb") as table:
        shutil.copyfileobj(file, table)


def cifar10(source: Path, folder: Path) -> None:
    """Small pictures of ten classes."""
    for part, (name, first, last) in CIFAR10_PARTS.items():
        held = np.load(source / "cifar10_jpeg" / f"{name}.npz")
        data, offsets, labels, classes = (held[key] for key in ("jpeg", "offsets", "labels", "classes"))
        for place in range(first, last):
            label = folder / part / str(classes[labels[place]])
            label.mkdir(parents=True, exist_ok=True)
            (label / f"{place:05}.jpg").write_bytes(data[offsets[place] : offsets[place + 1]].tobytes())


def cracks(source: Path, folder: Path) -> None:
    """Photos of roads and where cracks are."""
    with tarfile.open(source / "crackforest" / "crackforest.tar") as archive:
        held = {member.name: archive.extractfile(member) for member in archive.getmembers() if member.isfile()}
        contents = {name: file.read() for name, file in held.items() if file is not None}
    for part, numbers in CRACK_PARTS.items():
        (folder / part).mkdir(parents=True)
        (folder / f"{part}annot").mkdir()
        for number in numbers:
            image = Image.open(io.BytesIO(contents[f"crackforest/images/{number:03}.jpg"]))
            mask = Image.open(io.BytesIO(contents[f"crackforest/masks/{number:03}.png"]))
            image.resize(CRACK_SIZE, Image.Resampling.BOX).save(folder / part / f"{number:03}.png")
            crack = np.asarray(mask)
            # A pixel of half the size is crack if one of its four is: cracks of a pixel or two stay whole.
            quarters = crack.reshape(CRACK_SIZE[1], 2, CRACK_SIZE[0], 2)
            small = np.where((quarters == 1).any((1, 3)), 1, np.where((quarters == VOID).all((1, 3)), VOID, 0))
            Image.fromarray(small.astype(np.uint8)).save(folder / f"{part}annot" / f"{number:03}.png")


SETS: Mapping[str, Callable[[Path, Path], None]] = {
    made.__name__: made for made in (keywords, shoulder, bearing, cells, transformer, cifar10, cracks)
}


def main() -> None:
    """Write the folders that are asked for and not there."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("sets", nargs="*", help=f"of {', '.join(SETS)}; all if left out")
    given = parser.parse_args()
    for name in given.sets or SETS:
        folder: Path = given.out / name
        if folder.exists():
            print(f"{folder}: there already")
            continue
        folder.mkdir(parents=True)
        if name == "keywords":
            folder.rmdir()
        SETS[name](given.source, folder)
        print(f"{folder}: {sum(path.is_file() for path in folder.rglob('*'))} files")


if __name__ == "__main__":
    main()
