"""What a constructor of one's own declares is given as TOML has it, and is the same for a run that is gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli_w

from qanas.core.errors import InputError
from qanas.recipe import load_plan
from tests.robustness.small import recipe

CLASS = "\n\nclass MySpace(NetworkSpace):\n"
IMPORTS = """
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path


class Kind(Enum):
    PLAIN = "plain"
    ODD = "odd"

"""


def space(argument: str) -> tuple[str, str]:
    body = f"    def __init__(self, {argument}):\n        self.own = own\n\n"
    return CLASS, f"{IMPORTS}{CLASS}{body}"


@pytest.mark.parametrize(
    ("argument", "given", "expected"),
    [
        ("own: tuple[int, ...] | None = (2, 4)", None, (2, 4)),
        ("own: tuple[int, ...] | None = None", [3], (3,)),
        ("own: tuple = (2,)", [3], (3,)),
        ("own: list[tuple[int, str]] = []", [[3, "a"]], [(3, "a")]),
        ("own: dict[str, tuple[int, ...]] = {}", {"a": [3]}, {"a": (3,)}),
        ("own: dict[int, int] = {1: 2}", None, {1: 2}),
        ("own: set[str] = {'a', 'b', 'c'}", None, {"a", "b", "c"}),
        ("own: frozenset[int] = frozenset()", [3, 4], frozenset({3, 4})),
        ("own: Sequence[int] = (1,)", [3], [3]),
        ("own: Kind = Kind.PLAIN", "odd", "Kind.ODD"),
        ("own: Kind | None = Kind.PLAIN", None, "Kind.PLAIN"),
        ("own: list[Path] = []", ["a"], [Path("a")]),
        ("own: float = np.float32(0.5)", None, 0.5),
        ("own: type = nn.ReLU", None, "<class 'torch.nn.modules.activation.ReLU'>"),
        ("own: object = range(3)", None, range(3)),
        ("own: str | Path = 'x'", "y", "y"),
    ],
)
def test_a_value_is_what_the_annotation_says(tmp_path: Path, argument: str, given: Any, expected: object) -> None:  # noqa: ANN401
    plan = load_plan(recipe(tmp_path, space(argument), space={} if given is None else {"own": given}))
    found = vars(plan.bench.networks)["own"]
    assert (str(found) if isinstance(expected, str) else found) == expected
    resolved = tmp_path / "resolved.toml"
    resolved.write_text(tomli_w.dumps(dict(plan.recipe)), "utf-8")
    again = load_plan(resolved)
    assert again.recipe == plan.recipe
    assert str(vars(again.bench.networks)["own"]) == str(found) or isinstance(found, set)


def test_a_default_that_a_dataclass_makes_anew(tmp_path: Path) -> None:
    fields = (
        "    own: list[int] = field(default_factory=lambda: [1])\n    made: tuple = field(default=(), init=False)\n\n"
    )
    plan = load_plan(recipe(tmp_path, (CLASS, f"{IMPORTS}\n@dataclass{CLASS[1:]}{fields}")))
    assert plan.recipe["space"]["own"] == [1]


@pytest.mark.parametrize(
    ("argument", "given", "expected"),
    [
        ("own: Kind = Kind.PLAIN", "odder", "space.own: 'odder': input should be "),
        ("own: tuple[int, int] = (1, 2)", [1], "space.own.1: missing"),
        ("own: set[int] = set()", [[1]], "space.own: "),
        ("own: int = 3, name: str = 'x'", None, "the constructor of MySpace takes name, which is a key of [space]"),
    ],
)
def test_what_is_none_is_refused_in_a_line(tmp_path: Path, argument: str, given: Any, expected: str) -> None:  # noqa: ANN401
    with pytest.raises(InputError) as caught:
        load_plan(recipe(tmp_path, space(argument), space={} if given is None else {"own": given}))
    assert expected in str(caught.value)
