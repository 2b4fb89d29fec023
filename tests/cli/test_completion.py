"""What shells complete, and what `--watch` says."""

from pathlib import Path

import pytest

from qanas import arguments
from qanas.reporting import following


def test_paths_and_names_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("recipes", "runs/one", "runs/other", ".hidden"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("mine.toml", "recipes/a.toml", "notes.md", "net.tflite", "runs/one/recipe.toml"):
        (tmp_path / name).touch()
    assert arguments.recipes("") == ["mine.toml", "recipes/", "runs/", "recipes/a.toml"]
    assert arguments.recipes("recipes/") == ["recipes/a.toml"]
    assert arguments.recipes("no/where") == []
    assert arguments.recipes_and_models("n") == ["net.tflite"]
    assert arguments.run_folders("runs/o") == ["runs/one", "runs/other/"]
    assert arguments.devices("nrf") == ["nrf5340"]
    assert arguments.devices("mi") == ["mine.toml"]


def test_a_page_is_opened_where_there_is_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "report.html"
    asked: list[str] = []

    def browser(address: str) -> bool:
        asked.append(address)
        return True

    monkeypatch.setattr("webbrowser.open", browser)
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert following.opened(page) == f"no browser here: open {page.as_uri()}"
    monkeypatch.setenv("DISPLAY", ":0")
    assert following.opened(page) == f"opened {page.as_uri()}"
    assert asked == [page.as_uri()]


def test_the_home_folder_is_found_behind_an_equals_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    given = [
        "run",
        "a.toml",
        "--out=~/runs",
        "--set",
        "task.data=~/data",
        "--set=task.data=~/data",
        "--out=~nobody_at_all/x",
    ]
    assert arguments.with_home(given) == [
        *("run", "a.toml", "--out=/home/me/runs", "--set", "task.data=~/data", "--set=task.data=~/data"),
        "--out=~nobody_at_all/x",
    ]
