"""Copies that differ in bytes are found and kept in one split; what only looks or sounds alike is not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from PIL import Image, ImageOps

from qanas.tasks.audio.reader import print_of_recording
from qanas.tasks.audio.synthetic import write_recordings
from qanas.tasks.images import Images
from qanas.tasks.images.synthetic import write_pictures
from qanas.tasks.likeness import likeness
from qanas.tasks.pictures import print_of_picture
from qanas.tasks.timeseries import TimeSeries


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder, 3)
    return folder


def _larger(image: Image.Image, path: Path) -> None:
    image.resize((97, 97), Image.Resampling.BICUBIC).save(path.with_suffix(".png"))


SAME = {
    "JPEG of quality 75": lambda image, path: image.save(path.with_suffix(".jpg"), quality=75),
    "larger": _larger,
    "a palette": lambda image, path: image.quantize(64).save(path.with_suffix(".gif")),
}
OTHER = {
    "mirrored": lambda image, path: ImageOps.mirror(image).save(path.with_suffix(".png")),
    "turned": lambda image, path: image.rotate(90).save(path.with_suffix(".png")),
}


@pytest.mark.parametrize("kind", [*SAME, *OTHER])
def test_pictures_saved_again_are_told_and_stay_together(kind: str, pictures: Path, tmp_path: Path) -> None:
    for shape in ("disc", "cross"):
        (tmp_path / shape).mkdir()
        for index in range(20):
            (tmp_path / shape / f"{index}.png").symlink_to(pictures / shape / f"{index:03d}.png")
    change: Callable[[Image.Image, Path], None] = (SAME | OTHER)[kind]
    with Image.open(pictures / "cross" / "007.png") as image:
        change(image, tmp_path / "cross" / "copy")
    task = Images(data=str(tmp_path))
    with task.divided() as found:
        told = [line for line in found.remarks if "nearly equal" in line]
        groups = {
            sample.name: (name, group)
            for name, samples in found.samples.items()
            for sample, group in zip(samples, found.groups[name].tolist(), strict=True)
        }
    copy = next(name for name in groups if "copy" in name)
    assert bool(told) == (kind in SAME)
    assert (groups[copy] == groups["cross/7.png"]) == (kind in SAME)
    if told:
        assert told[0].startswith("2 files are nearly equal to another one, such as cross/")
        assert told[0].endswith("kept in one split")


def test_with_groups_nearly_equal_pictures_are_told_alone(pictures: Path, tmp_path: Path) -> None:
    rows = ["file,label,group"]
    for shape in ("disc", "cross"):
        for index in range(12):
            (tmp_path / f"{shape}{index}.png").symlink_to(pictures / shape / f"{index:03d}.png")
            rows.append(f"{shape}{index}.png,{shape},{shape}{index}")
    with Image.open(pictures / "cross" / "007.png") as image:
        image.save(tmp_path / "copy.jpg", quality=80)
    (tmp_path / "labels.csv").write_text("\n".join([*rows, "copy.jpg,cross,apart"]) + "\n")
    with Images(data=str(tmp_path)).divided() as found:
        assert any("1 pairs are of two groups" in line for line in found.remarks)


def test_recordings_saved_again_are_told(tmp_path: Path) -> None:
    write_recordings(tmp_path, 0)
    files = sorted(tmp_path.rglob("*.wav"))[:60]
    values, rate = soundfile.read(files[5])
    soundfile.write(tmp_path / "a.ogg", values, rate)
    soundfile.write(tmp_path / "b.wav", 0.3 * soxr.resample(values, rate, 11025), 11025)
    copies = [tmp_path / "a.ogg", tmp_path / "b.wav"]
    prints = np.stack([print_of_recording(path) for path in [*files, *copies]])
    found = likeness(prints, [str(place) for place in range(len(prints))], 6)
    assert {frozenset(pair) for pair in found.pairs} == {frozenset((5, 60)), frozenset((5, 61)), frozenset((60, 61))}
    assert [place for place, key in enumerate(found.keys) if key] == [5, 60, 61]


def test_series_written_with_fewer_digits_are_told(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for label in ("run", "walk"):
        (tmp_path / label).mkdir()
        for index in range(8):
            rows = np.cumsum(generator.normal(size=(80, 2)), axis=0)
            np.savetxt(tmp_path / label / f"{index}.csv", rows, "%.6f", ",", header="x,y", comments="")
    np.savetxt(tmp_path / "run" / "copy.csv", rows, "%.2f", ",", header="x,y", comments="")
    remarks = TimeSeries(data=str(tmp_path), window=20).load().remarks
    told = [line for line in remarks if "nearly equal" in line]
    assert len(told) == 1
    assert "2 recordings are nearly equal" in told[0]


def test_a_crowd_is_kept_apart_and_emptiness_is_like_nothing(pictures: Path) -> None:
    prints = np.stack([print_of_picture(path) for path in sorted(pictures.rglob("*.png"))[:40]])
    crowd = prints[3] + np.random.default_rng(0).normal(0, 0.5, (9, prints.shape[1])).astype(np.float32)
    whole = np.concatenate([prints, crowd])
    found = likeness(whole, [str(place) for place in range(len(whole))], 6)
    assert (found.crowd, found.pairs, set(found.keys)) == (10, (), {""})
    empty = np.concatenate([prints, np.repeat(prints.mean(axis=0)[None], 2, axis=0)])
    assert not likeness(empty, [str(place) for place in range(len(empty))], 6).pairs
    assert not likeness(prints[:1], ["a"], 6).pairs
