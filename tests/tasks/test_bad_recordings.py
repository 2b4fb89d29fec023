"""Bad folders of sound: taken as people expect, or refused in one line that names the file and the mend."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tests.tasks.bad_folders import Case, both, refused, taken, try_case, write

from qanas.tasks.anomaly import Anomaly
from qanas.tasks.audio import Audio

RATE, COUNT = 8000, 5


def sound(seed: int, samples: int = 800, channels: int = 1) -> Any:  # noqa: ANN401
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (samples, channels))


def save(name: str, values: Any, rate: int = RATE, form: str = "WAV", subtype: str = "PCM_16") -> Any:  # noqa: ANN401
    """Return a change that saves a recording."""

    def change(folder: Path) -> None:
        content = io.BytesIO()
        soundfile.write(content, values, rate, subtype=subtype, format=form)
        write(folder / name, content.getvalue())

    return change


@pytest.fixture(scope="module")
def sound_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for number, label in enumerate(("bark", "meow")):
        for index in range(COUNT):
            save(f"{label}/{index}.wav", sound(10 * number + index))(folder)
    return folder


def clips(count: int) -> Any:  # noqa: ANN401
    return lambda data: len(data.train) + len(data.val) + len(data.test) == count


def undisturbed(word: str) -> Any:  # noqa: ANN401
    return lambda data: not any(word in line for line in data.remarks)


def without_sizes(path: Path) -> bytes:
    """Return a WAV file as a program writes it into a pipe."""
    content = path.read_bytes()
    place = content.index(b"data") + 4
    return content[:4] + bytes(4) + content[8:place] + bytes(4) + content[place + 4 :]


def whole(data: Any) -> bool:  # noqa: ANN401
    return bool(clips(10)(data) and undisturbed("shorter")(data))


def untouched(folder: Path) -> None:
    pass


CASES = [
    taken("nothing wrong", untouched, check=clips(10)),
    taken("another rate", save("bark/0.wav", sound(1, 4800), 48000), "resampled to 8000 Hz: 1 of 48000 Hz"),
    taken("a lower rate", save("bark/0.wav", sound(1, 400), 4000), "task.sample_rate = 4000 is enough"),
    taken("stereo", save("bark/0.wav", sound(1, channels=2)), "1 recordings have several channels"),
    taken(
        "stereo that cancels",
        save("bark/0.wav", np.outer(sound(1), [1, -1])),
        "the channels of 1 recordings cancel each other, such as bark/0.wav",
    ),
    taken("one channel of two", save("bark/0.wav", np.outer(sound(1), [1, 0])), check=undisturbed("cancel")),
    taken("a stream without sizes", lambda f: write(f / "bark/0.wav", without_sizes(f / "bark/0.wav")), check=whole),
    taken("short", save("bark/0.wav", sound(1, 100)), "1 recordings are shorter than 0.1 s"),
    taken("one sample", save("bark/0.wav", sound(1, 1)), "shorter"),
    taken("long", save("bark/0.wav", sound(1, 2500)), "1 recordings are longer than 0.1 s", clips(12)),
    taken("a sample too few", save("bark/0.wav", sound(1, 1600)[:-1]), "longer", clips(11)),
    taken("silent", save("bark/0.wav", np.zeros(800)), "1 recordings are silent, such as bark/0.wav"),
    taken("8 bits", save("bark/0.wav", sound(1), subtype="PCM_U8"), check=clips(10)),
    taken("24 bits", save("bark/0.wav", sound(1), subtype="PCM_24"), check=clips(10)),
    taken(
        "floats beyond 1",
        save("bark/0.wav", 9 * sound(1), subtype="FLOAT"),
        "1 recordings go beyond full scale, such as bark/0.wav: what does is cut off",
        clips(10),
    ),
    taken("floats to 1", save("bark/0.wav", 2 * sound(1), subtype="FLOAT"), check=undisturbed("full scale")),
    taken("telephone's", save("bark/0.wav", sound(1), subtype="ULAW"), check=clips(10)),
    taken("flac", save("bark/x.flac", sound(50), form="FLAC"), check=clips(11)),
    taken("upper-case suffixes", lambda f: (f / "bark/0.wav").rename(f / "bark/0.WAV"), check=clips(10)),
    taken("noise beside", save("_background_noise/a.wav", sound(50)), check=clips(10)),
    taken("mp3 beside", lambda f: write(f / "bark/a.mp3", "x"), "1 files of"),
    refused("NaN", save("bark/0.wav", np.full(800, np.nan), subtype="FLOAT"), "bark/0.wav: sample 1 is NaN"),
    refused("no samples", save("bark/0.wav", np.zeros(0)), "bark/0.wav: no samples"),
    refused("an empty file", lambda f: write(f / "bark/0.wav", ""), "bark/0.wav: not a readable sound file"),
    refused("a text", lambda f: write(f / "bark/0.wav", "RIFF"), "not a readable sound file: fetch it again"),
    refused("a header alone", lambda f: write(f / "bark/0.wav", (f / "bark/0.wav").read_bytes()[:30]), "0.wav: no"),
    refused("frames longer than clips", untouched, "task.window_ms", window_ms=500),
    refused("more coefficients than bands", untouched, "task.coefficients", coefficients=20),
    taken("too many bands", untouched, "bands are narrower than the spectrum's lines", bands=200),
]


def normal_in_train(folder: Path) -> None:
    """Deal files out as anomalies are often given: normal ones to train with, both kinds to test with."""
    for path in sorted(folder.glob("*/*.wav")):
        split = "train" if path.parent.name == "bark" and path.stem != "0" else "test"
        (folder / split / path.parent.name).mkdir(parents=True, exist_ok=True)
        path.rename(folder / split / path.parent.name / path.name)
    for label in ("bark", "meow"):
        (folder / label).rmdir()


def anomalies(val: int, test: int) -> Any:  # noqa: ANN401
    return lambda data: (
        [len(set(split.extras["recording"][split.extras["anomalous"]])) for split in (data.train, data.val, data.test)]
        == [0, val, test]
    )


ANOMALIES = [
    taken("normal ones and others", untouched, check=anomalies(3, 2)),
    taken("normal ones to train with", normal_in_train, "test alone has anomalies: they are dealt", anomalies(3, 2)),
    refused("nothing called so", untouched, "task.normal", "but bark, meow", normal="purr"),
    refused("anomalies to train with", both(normal_in_train, save("train/meow/9.wav", sound(50))), "'meow' in train"),
    refused("normal ones alone", lambda f: shutil.rmtree(f / "meow"), "one class, 'bark'"),
    refused("one anomaly", lambda f: [(p.unlink(), 0) for p in f.glob("meow/[1-9].wav")],  # type: ignore[func-returns-value]
            "no anomaly is left for test"),
    refused("more context than sound", untouched, "task.context", context=60),
]  # fmt: skip


@pytest.mark.parametrize("case", ANOMALIES, ids=lambda case: case.name)
def test_a_folder_of_anomalies(case: Case, sound_folder: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "normal": "bark",
        "context": 2,
        "bands": 10,
        "window_ms": 16,
        "hop_ms": 16,
    } | case.settings
    try_case(case, sound_folder, tmp_path, lambda folder: Anomaly(folder, sample_rate=RATE, seconds=0.1, **settings))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_folder_of_recordings(case: Case, sound_folder: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"bands": 10, "window_ms": 16, "hop_ms": 16} | case.settings
    try_case(case, sound_folder, tmp_path, lambda name: Audio(name, sample_rate=RATE, seconds=0.1, **settings))
