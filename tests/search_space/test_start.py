import pickle

import torch
from torch import nn

from qanas.core.candidate import Candidate
from qanas.search_space.network_space import TaskShape
from qanas.search_space.start import RandomStart


def test_a_random_start_leaves_the_network_as_it_was_built() -> None:
    network = nn.Linear(3, 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    start = RandomStart()
    start.apply(Candidate(), network, TaskShape((3,), 2, 1.0, ("mse",)))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert (start.digest, start.trained) == ("", False)
    assert pickle.loads(pickle.dumps(start)) == start  # noqa: S301 - own bytes
