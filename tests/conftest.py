import pytest
import torch
from hypothesis import HealthCheck, settings

from tests import latency_in_process

torch.set_num_threads(1)
latency_in_process.install()

# A timing is never a test: a busy machine is slow at drawing examples, too.
settings.register_profile("qanas", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("qanas")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
