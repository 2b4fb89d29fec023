"""The two forms in which a recipe has its space: ``[space]``, or ``[teacher]`` and ``[blocks]``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from qanas.core.errors import InputError
from qanas.performance_estimation.base import Estimator
from qanas.recipe.components import find, made_from, options_of, require_free, validated
from qanas.recipe.declared import to_toml
from qanas.recipe.registry import OWN_TABLES
from qanas.recipe.tables import BlocksTable, SpaceTable, TeacherTable
from qanas.search_space.blockwise_space import BlockwiseSpace
from qanas.search_space.network_space import NetworkSpace

BLOCKWISE_SEARCH = ["architecture", "quantization"]
"""The groups that are free where blocks are searched: all are trained alike."""


OF_BLOCKS = "block_tables"
"""The estimator of recipes in the form of block-wise ones."""

FORMER_NAMES = ("training",)
"""What it was called in recipes of version 0.1."""


@dataclass(frozen=True)
class SpaceForm:
    """Where a recipe's space stands in it.

    Attributes:
        family: what the class that it names has to be.
        section: the table that names it.
        key: of its name there.
        moved: arguments of the family that stand in another table, by that table's name.
        own_keys: keys of the section that are not the family's.
        unwritten: arguments that another table of the recipe tells.
    """

    family: type[NetworkSpace] = NetworkSpace
    section: str = "space"
    key: str = "name"
    moved: Mapping[str, str] = field(default_factory=dict)
    own_keys: tuple[str, ...] = tuple(SpaceTable.model_fields)
    unwritten: tuple[str, ...] = ()

    def networks(self, name: str, values: Mapping[str, Any]) -> tuple[NetworkSpace, dict[str, dict[str, Any]]]:
        """Return the family of networks, and the resolved arguments that made it, by table.

        Args:
            name: of the family.
            values: its arguments.

        Raises:
            InputError: names the key and the mend.
        """
        family = find(name, self.section, self.family, self.key)
        require_free(family, self.section, self.own_keys)
        options: BaseModel = options_of(family, values, self.section, self.moved, self.own_keys)
        made = made_from(family, options, self.section, name)
        resolved: dict[str, dict[str, Any]] = {table: {} for table in (self.section, *self.moved.values())}
        for key, value in to_toml(options).items():
            if key not in self.unwritten:
                resolved[self.moved.get(key, self.section)][key] = value
        return made, resolved


def as_space(content: dict[str, Any]) -> tuple[dict[str, Any], SpaceForm]:
    """Return a recipe with its space in ``[space]``, and in which form it had it.

    In the form of block-wise recipes ``[teacher]`` names the family and has its epochs and weights, ``[blocks]`` has
    what can stand in the blocks, and ``[table]`` the bits that are searched.

    Args:
        content: of the recipe, not changed.

    Raises:
        InputError: names the key and the mend.
    """
    content = dict(content)
    of_blocks = "teacher" in content or "blocks" in content
    tables = [table for table, estimator in OWN_TABLES.items() if estimator == OF_BLOCKS]
    if not of_blocks and ("space" in content or not any(table in content for table in tables)):
        return content, SpaceForm()
    if "space" in content:
        raise InputError("space: given by [teacher] and [blocks], too; give one of the two")
    teacher = validated(TeacherTable, content.pop("teacher", {}), "teacher")
    blocks = validated(BlocksTable, content.pop("blocks", {}), "blocks").model_extra or {}
    family = teacher.model_extra or {}
    _require_told_once(teacher, blocks, content)
    own = {key: value for key, value in blocks.items() if key != "width"}
    content["estimation"] = _estimated(content.get("estimation", {}), teacher)
    content["space"] = {"name": teacher.network, "search": BLOCKWISE_SEARCH, **family, **own}
    if teacher.weights is not None:
        content["seed"] = {"weights": teacher.weights}
    content["space"]["weight_bits"], per = _bits(content.get("table", {}))
    if per == "layer":
        content["space"]["bits_per"] = per
    form = SpaceForm(BlockwiseSpace, "teacher", "network", dict.fromkeys(own, "blocks"),
                     tuple(TeacherTable.model_fields), ("weight_bits", "bits_per"))  # fmt: skip
    return content, form


def _bits(table: Any) -> tuple[list[int], str]:  # noqa: ANN401 - as the recipe has it
    """Return the bits that a recipe's ``[table]`` asks for, and what has its own.

    Raises:
        InputError: names the key of that table and the mend.
    """
    options: Any = validated(find(OF_BLOCKS, "estimation", Estimator).tables["table"], table, "table")
    return list(options.bits), options.per


_TOLD_ELSEWHERE = {
    "weight_bits": "has the bits of its tables; give table.bits instead",
    "bits_per": "has the bits of its tables; give table.per instead",
    **dict.fromkeys(("name", "search"), "is of teacher.network, all its blocks; leave it out"),
}
"""Settings of a space that this form gives itself, and why."""


def _require_told_once(teacher: TeacherTable, blocks: Mapping[str, Any], content: Mapping[str, Any]) -> None:
    """Refuse what ``[teacher]`` and ``[blocks]`` both tell, or one of them and another table.

    Args:
        teacher: the table.
        blocks: the keys of the other one.
        content: of the recipe.

    Raises:
        InputError: names the key and the mend.
    """
    family = teacher.model_extra or {}
    if blocks.get("width", family.get("width")) != family.get("width"):
        raise InputError("blocks.width: the blocks' borders have the teacher's channels; give teacher.width alone")
    twice = sorted((blocks.keys() - {"width"}) & family.keys())
    if twice:
        raise InputError(f"blocks.{twice[0]}: given in [teacher], too; give it once")
    for key, reason in _TOLD_ELSEWHERE.items():
        given = next((name for name, keys in (("blocks", blocks), ("teacher", family)) if key in keys), None)
        if given:
            raise InputError(f"{given}.{key}: a block-wise search {reason}")
    if teacher.weights is not None and "seed" in content:
        raise InputError("seed: the reference is the teacher, whose weights are teacher.weights; leave it out")


def _estimated(estimation: Any, teacher: TeacherTable) -> Any:  # noqa: ANN401 - as the recipe has it
    """Return ``[estimation]`` with what the form says of it; what is no table is left to the check that tells so.

    Raises:
        InputError: it names another estimator, or epochs.
    """
    if not isinstance(estimation, dict):
        return estimation
    name = estimation.get("name", OF_BLOCKS)
    if name not in (OF_BLOCKS, *FORMER_NAMES):
        raise InputError(
            f"estimation.name: recipes with [teacher] and [blocks] are estimated by '{OF_BLOCKS}', not by "
            f"{name!r}; leave it out, or write the space as [space]"
        )
    if "epochs" in estimation:
        raise InputError("estimation.epochs: teacher and students are trained alike; give teacher.epochs instead")
    return {**estimation, "name": OF_BLOCKS, "epochs": teacher.epochs}
