"""The trials of a run as one typed table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from qanas.core.candidate import GROUPS, Value
from qanas.core.errors import escaped
from qanas.core.measures import CURVE, TRAIN_LOSSES, Cost, setting_columns
from qanas.core.trials import TrialRecord

_TIME = pl.Datetime("us", "UTC")

FIRST_COLUMNS: dict[str, pl.DataType] = {
    "number": pl.Int64(),
    "index": pl.Int64(),
    "key": pl.String(),
    "outcome": pl.String(),
    "reason": pl.String(),
    "seed_network": pl.Boolean(),
    "feasible": pl.Boolean(),
}
LAST_COLUMNS: dict[str, pl.DataType] = {
    "train_seconds": pl.Float64(),
    "started_at": _TIME,
    "finished_at": _TIME,
}
"""What every trial has; in between are its metrics, its costs and its settings."""


def trial_table(records: Iterable[TrialRecord]) -> pl.DataFrame:
    """Return all trials, one row each, in the order in which they ended.

    Metrics and latency are floats, other costs integers, settings of the type of their values; what a trial doesn't
    have is null: metrics of one that wasn't measured, settings of a third layer in a network of two.
    ``docs/analysis.md`` lists the columns.

    Args:
        records: in any order.
    """
    ordered = sorted(records, key=lambda record: record.number)
    rows = [record.row() for record in ordered]
    by_group = [{group: record.config.get(group, {}) for group in GROUPS} for record in ordered]
    metrics = _names(record.metrics for record in ordered)
    costs = _names(record.costs for record in ordered)
    settings = _names(setting_columns({group: config[group]}) for group in GROUPS for config in by_group)
    types = dict(FIRST_COLUMNS)
    types |= dict.fromkeys(metrics, pl.Float64())
    types |= {name: _cost_type(name, [row.get(name) for row in rows]) for name in costs}
    types |= {name: _setting_type([row.get(name) for row in rows]) for name in settings}
    types |= dict.fromkeys(_names(record.origin for record in ordered), pl.String())
    types |= LAST_COLUMNS
    columns = [_series(name, [row.get(name) for row in rows], types[name]) for name in types]
    if any(record.train_losses for record in ordered):
        losses = [list(record.train_losses) or None for record in ordered]
        columns.append(pl.Series(TRAIN_LOSSES, losses, pl.List(pl.Float64())))
    for name in _names(point for record in ordered for point in record.curve):
        kind = pl.Int64() if name == "epoch" else pl.Float64()
        curves = [[point.get(name) for point in record.curve] or None for record in ordered]
        columns.append(pl.Series(f"{CURVE}{name}", curves, pl.List(kind)))
    return pl.DataFrame(columns)


def _names(tables: Iterable[Iterable[str]]) -> list[str]:
    """Return all keys, in the order of first use."""
    return list(dict.fromkeys(name for table in tables for name in table))


def _series(name: str, values: list[Value | None], dtype: pl.DataType) -> pl.Series:
    if dtype == _TIME:
        return pl.Series(name, [_microseconds(value) for value in values], pl.Int64()).cast(_TIME)
    if dtype == pl.String():
        return pl.Series(name, [None if value is None else escaped(str(value)) for value in values], dtype)
    return pl.Series(name, values, dtype, strict=False)


def _microseconds(seconds: Value | None) -> int | None:
    return None if seconds is None else round(float(seconds) * 10**6)


def _cost_type(name: str, values: Sequence[Value | None]) -> pl.DataType:
    """Return whole numbers for what is counted from shapes; what is measured, latency, is a float."""
    cost = Cost.parse(name)
    counted = cost is not None and not cost.of_device
    whole = counted and all(value is None or float(value).is_integer() for value in values)
    return pl.Int64() if whole else pl.Float64()


def _setting_type(values: Sequence[Value | None]) -> pl.DataType:
    """Return the narrowest type that holds all values; text where they are of several kinds."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pl.Boolean()
    if kinds == {int}:
        return pl.Int64()
    return pl.Float64() if kinds and kinds <= {int, float} else pl.String()
