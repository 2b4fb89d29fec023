"""How names and numbers of a run are written for people."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qanas.core.measures import Cost, Metric, measure_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qanas.core.card import SplitName

COST_WORDS = {
    "file_bytes": "file",
    "weight_bytes": "weights",
    "packed_weight_bytes": "packed weights",
    "arena_bytes": "arena",
    "peak_ram_bytes": "planned RAM",
    "macs": "MACs",
    "front_end_macs": "front end, MACs",
    "front_end_ram_bytes": "front end, RAM",
    "front_end_flash_bytes": "front end, flash",
    "latency_ms": "latency",
    "cycles": "cycles",
    "instructions": "instructions",
    "flash_bytes": "flash",
    "ram_bytes": "RAM",
}
"""What each cost is of."""

SPLITS: Mapping[SplitName, str] = {"val": "validation", "test": "test"}
"""The splits that models are scored on."""

_SPELLED = {part.lower(): part for part in ("AUC", "F1", "IoU", "MAE", "mIoU", "MSE", "NSR", "RMSE")}
_MINUTE, _HOUR = 60, 3600
_TENTHS_BELOW = 10  # seconds
_COUNTABLE = 10**7
_FOUR_TELL = 1e-3  # from here on four decimals tell enough
_MOST_DECIMALS = 12

EMPTY = "\N{EN DASH}"
"""What an empty cell shows."""


def words(name: str) -> str:
    """Write a metric's or setting's name in words.

    >>> words("mae_uncapped"), words("miou")
    ('MAE uncapped', 'mIoU')
    """
    return " ".join(_SPELLED.get(part, part) for part in name.split("_"))


def title(column: str) -> str:
    """Write the title of a column or an axis.

    >>> title("float_weight_bytes"), title("mae_quantized"), title("latency_ms@imxrt1170")
    ('weights, bytes (float)', 'MAE (quantized)', 'latency on imxrt1170, ms')
    """
    measure = measure_of(column)
    if isinstance(measure, Cost):
        device = f" on {measure.device}" if measure.device else ""
        named, unit = COST_WORDS[measure.name] + device, measure.unit
        return f"{named if unit in named else f'{named}, {unit}'}{' (float)' if measure.float_ else ''}"
    return f"{words(measure.name)} ({measure.precision})" if isinstance(measure, Metric) else words(column)


def listed(texts: Sequence[str]) -> str:
    """Write names as a list in a sentence.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return f"{', '.join(texts[:-1])} and {texts[-1]}" if len(texts) > 1 else "".join(texts)


def decimals(value: float) -> int:
    """Return how many decimals tell values of this size apart.

    >>> decimals(250.0), decimals(0.5), decimals(0.0), decimals(0.000031)
    (1, 3, 4, 7)
    """
    size = abs(value)
    if 0 < size < _FOUR_TELL:
        return min(2 - math.floor(math.log10(size)), _MOST_DECIMALS)
    steps = ((1000.0, 0), (100.0, 1), (1.0, 2), (0.1, 3))
    return next((places for bound, places in steps if size >= bound), 4)


def number(value: float | None, places: int | None = None) -> str:
    """Write a number with the digits that a reader can use.

    >>> number(128460), number(9.4123), number(0.00001234), number(float("nan"))
    ('128,460', '9.41', '1.23e-05', 'not finite')
    """
    if value is None:
        return EMPTY
    if not math.isfinite(value):
        return "not finite"
    if float(value).is_integer() and places is None:
        return f"{int(value):,}"
    if places is None and 0 < abs(value) < 10**-4:
        return f"{value:.3g}"
    return f"{value:,.{decimals(value) if places is None else places}f}"


def signed(value: float, places: int | None = None) -> str:
    """Write a difference with its sign; a true minus lines up with the plus.

    >>> signed(0.25), signed(1.5, 1)
    ('+0.250', '+1.5')
    """
    text = number(abs(value), places)
    if not math.isfinite(value):
        return text
    return f"\N{MINUS SIGN}{text}" if value < 0 else f"+{text}"


def duration(seconds: float) -> str:
    """Write a time span in its two largest units.

    >>> duration(0.4), duration(75), duration(3660)
    ('0.4 s', '1 min 15 s', '1 h 1 min')
    """
    if seconds < _TENTHS_BELOW:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"


def rough_duration(seconds: float) -> str:
    """Write a time span that is only an estimate.

    >>> rough_duration(12.3), rough_duration(185), rough_duration(3700)
    ('12 s', '3 min', '1 h 2 min')
    """
    if seconds < _MINUTE:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / _MINUTE)
    return f"{minutes} min" if seconds < _HOUR else f"{minutes // 60} h {minutes % 60} min"


def magnitude(value: int) -> str:
    """Write a whole number; one that nobody would count in powers of ten.

    >>> magnitude(65536), magnitude(6**18)
    ('65,536', '1.0e14')
    """
    if value < _COUNTABLE:
        return f"{value:,}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def count(amount: int, singular: str) -> str:
    """Write an amount and its noun.

    >>> count(1, "trial"), count(2, "trial")
    ('1 trial', '2 trials')
    """
    return f"{amount:,} {singular}" if amount == 1 else f"{amount:,} {singular}s"


def setting(value: object) -> str:
    """Write a setting's value.

    >>> setting(0.00312345), setting(True)
    ('0.00312', 'true')
    """
    if value is None:
        return EMPTY
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.3g}" if isinstance(value, float) and not value.is_integer() else str(value)
