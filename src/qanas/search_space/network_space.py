"""What a network family brings: its settings, and how to build a candidate. Users' classes have this shape."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from qanas.core.candidate import Candidate
from qanas.search_space.settings import Setting
from qanas.search_space.training_group import Penalty


@dataclass(frozen=True)
class TaskShape:
    """What a network has to fit.

    Attributes:
        input_shape: of one sample.
        output_size: values put out per sample.
        output_scale: size of the targets; the last layer is multiplied by it (see `ScaledLinear`).
        losses: the kinds of training loss.
    """

    input_shape: tuple[int, ...]
    output_size: int
    output_scale: float
    losses: tuple[str, ...]


class NetworkSpace(ABC):
    """A family of networks around a reference. Its constructor's arguments are keys of a recipe's ``[space]``."""

    @abstractmethod
    def settings(self, shape: TaskShape) -> Sequence[Setting]:
        """Return every setting, in an order in which a condition's setting comes before it.

        The reference network is the candidate in which each setting has its reference value. Settings of the group
        ``training`` must contain those of `qanas.search_space.training_group.training_settings`.
        """

    @abstractmethod
    def build(self, candidate: Candidate, shape: TaskShape) -> nn.Module:
        """Return the candidate's network with initial weights, drawn from torch's global generator.

        The network maps (batch, *input_shape) to (batch, output_size) and consists of what the quantized graph
        knows.
        """

    def penalties(self, candidate: Candidate, network: nn.Module) -> Mapping[str, Penalty]:
        """Return which penalties are added to the training loss, by the names of the network's parameters.

        Args:
            candidate: in training.
            network: as `build` returned it.
        """
        del candidate, network
        return {}

    def module_weight_bits(self, candidate: Candidate) -> Mapping[str, int]:
        """Return the bits of the weights of modules that have their own, by the module's path.

        Those of all others are the candidate's ``weight_bits``, or the scheme's where it has no such setting.
        """
        del candidate
        return {}

    def narrowed(self, reference: Candidate, share: float) -> Candidate | None:
        """Return the reference with all its layers narrowed evenly, or None: then there is no such baseline.

        Args:
            reference: the space's.
            share: of the channels or units that every layer keeps, in (0, 1).
        """
        del reference, share
        return None


def narrower(candidate: Candidate, prefix: str, share: float) -> Candidate:
    """Return a candidate with a share of each of some widths, at least 1.

    Args:
        candidate: as it is.
        prefix: of the names of the settings in ``architecture`` that are widths.
        share: that is kept.

    >>> dict(narrower(Candidate(architecture={"units_1": 100, "layers": 1}), "units_", 0.25).architecture)
    {'layers': 1, 'units_1': 25}
    """
    widths = {
        name: max(1, round(share * int(width)))
        for name, width in candidate.architecture.items()
        if name.startswith(prefix)
    }
    return replace(candidate, architecture={**candidate.architecture, **widths})
