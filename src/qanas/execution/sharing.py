"""Work that several coordinators share: who does which unit, and what came out."""

from __future__ import annotations

from typing import Any, Protocol


class Sharing(Protocol):
    """Hands units of work out, each to one coordinator at a time. Passes `qanas.testing.check_sharing`.

    A unit is held by whoever claimed it until it is finished, released, or its holder is given up for dead; then it
    can be claimed again. One that is finished never can.
    """

    def claim(self, unit: str) -> bool:
        """Take a unit; false where somebody else holds or has finished it."""

    def finish(self, unit: str, result: Any = None) -> bool:  # noqa: ANN401 - whatever JSON holds
        """Say that a unit is done, with what is to be known of it; false where it was given to somebody else."""

    def release(self, unit: str) -> None:
        """Give a unit back, not done."""

    def results(self) -> dict[str, Any]:
        """Return what is known of finished units."""

    def wait(self) -> None:
        """Wait a little for others."""


class Alone:
    """Nobody shares: every unit is this coordinator's, and what is finished is in its folder."""

    def claim(self, unit: str) -> bool:
        """Take it."""
        del unit
        return True

    def finish(self, unit: str, result: Any = None) -> bool:  # noqa: ANN401 - whatever JSON holds
        """Know it from the folder."""
        del unit, result
        return True

    def release(self, unit: str) -> None:
        """Nobody else takes it."""

    def results(self) -> dict[str, Any]:
        """Return none: what is finished is in the folder."""
        return {}

    def wait(self) -> None:
        """There is nobody to wait for."""


ALONE = Alone()
