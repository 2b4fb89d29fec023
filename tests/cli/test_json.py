"""With --json, standard output is one object of the schema, errors as well, with the same exit codes."""

from __future__ import annotations

import json
import shutil
from importlib import resources
from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import typer

from qanas.cli import app

if TYPE_CHECKING:
    from tests.cli.conftest import Outcome, Workplace

SCHEMA: dict[str, Any] = json.loads(resources.files("qanas").joinpath("answers.schema.json").read_text("utf-8"))
COMMANDS = typer.main.get_group(app).commands


def answer(outcome: Outcome) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(outcome.out)
    jsonschema.validate(told, SCHEMA)
    assert told["exit_code"] == outcome.code
    return told


def test_every_command_has_it_and_is_in_the_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    described = {name for part in SCHEMA["$defs"].values() for name in part["properties"]["command"].get("enum", [])}
    assert described == set(COMMANDS)
    assert all(any("--json" in parameter.opts for parameter in command.params) for command in COMMANDS.values())


@pytest.mark.parametrize(
    "line",
    [
        "run tiny.toml",
        "check tiny.toml",
        "report runs/tiny",
        "verify runs/tiny",
        "pick runs/tiny",
        "profile tiny.toml",
        "space tiny.toml --samples 2",
        "compare runs/tiny other --out page.html",
        "devices",
        "devices nrf5340",
    ],
)
def test_answers_are_of_the_schema(line: str, finished: Workplace) -> None:
    finished.recipe()
    if "other" in line:
        shutil.copytree(finished.folder / "runs" / "tiny", finished.folder / "other")
    outcome = finished.qanas(*line.split(), "--json")
    assert outcome.code == 0, outcome.err
    told = answer(outcome)
    assert told["command"] == line.split(maxsplit=1)[0]
    if told["command"] in {"run", "report"}:
        assert {model["kind"] for model in told["models"]} == {"reference", "found"}
        assert told["status"] == "done"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("run nowhere.toml", "no such file"),
        ("bogus", "No such command 'bogus'"),
        ("check tiny.toml --set strategy.trails=3", "trails"),
        ("pick data", "data"),
        ("export mine:network --calibration none.npz --out m.tflite", "none.npz: no such file"),
        ("table tiny.toml", "Missing option '--out'"),
        ("new data", "columns without names"),
    ],
)
def test_errors_are_told_as_json_too(line: str, words: str, workplace: Workplace) -> None:
    workplace.recipe()
    outcome = workplace.qanas(*line.split(), "--json")
    assert outcome.code == 2
    assert words in answer(outcome)["error"]


def test_what_users_classes_print_is_not_on_standard_output(workplace: Workplace) -> None:
    (workplace.folder / "mine.py").write_text(
        "import os\n"
        "from qanas.testing.small import SmallTask\n"
        "class Loud(SmallTask):\n"
        "    def load(self):\n"
        "        print('loud')\n"
        "        os.write(1, b'louder')\n"
        "        return super().load()\n"
    )
    recipe = workplace.recipe({"task": {"name": "mine:Loud", "data": None, "subset": None, "window": None,
                                        "rul_cap": None, "stride": None},
                               "objectives": {"mae_quantized": None, "accuracy_quantized": "maximize"}})  # fmt: skip
    outcome = workplace.qanas("profile", recipe, "--json")
    assert answer(outcome)["command"] == "profile" if outcome.code == 0 else "error" in answer(outcome)
    assert "loud" in outcome.err
    assert "louder" in outcome.err
