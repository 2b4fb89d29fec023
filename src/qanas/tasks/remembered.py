"""What a task has learnt from its data and needs again where it has no data at hand, as in its loss."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Remembered(Generic[T]):
    """What this process has learnt of data sets, by what names them.

    Tasks are settings: two with the same settings are equal, whatever has been read, and travel to other processes as
    such. What loading finds (class counts, say) lies here, and is found anew in a process that has not loaded yet.

    >>> counts = Remembered[int]()
    >>> counts.of("plants", lambda: counts.keep("plants", 7)), counts.of("plants", list)
    (7, 7)
    """

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._known: dict[Hashable, T] = {}

    def keep(self, key: Hashable, value: T) -> None:
        """Keep what was just learnt, in place of what was known: the data may have changed meanwhile.

        Args:
            key: what names the data and the settings that it depends on.
            value: what was learnt.
        """
        self._known[key] = value

    def of(self, key: Hashable, load: Callable[[], object]) -> T:
        """Return what was learnt.

        Args:
            key: as it was kept.
            load: reads the data and keeps it; called only where nothing is known.
        """
        if key not in self._known:
            load()
        return self._known[key]
