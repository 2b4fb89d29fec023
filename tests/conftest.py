import functools
import itertools
import sys
from collections.abc import Generator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

TRACED_EXAMPLES = 10
"""Examples of a property test that coverage looks at: the others reach few new lines, and take half as long again."""

torch.set_num_threads(1)

# A timing is never a test: a busy machine is slow at drawing examples, too.
settings.register_profile("qanas", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("qanas")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Let coverage, where it is measured, look at the first examples of a property test alone."""
    handle = getattr(getattr(item, "obj", None), "hypothesis", None)
    measured = _coverage()
    if handle is None or measured is None:
        return (yield)
    inner, examples = handle.inner_test, itertools.count(1)

    @functools.wraps(inner)
    def traced(*args: object, **kwargs: object) -> None:
        if next(examples) == TRACED_EXAMPLES + 1:
            measured.stop()
        inner(*args, **kwargs)

    handle.inner_test = traced
    try:
        return (yield)
    finally:
        handle.inner_test = inner
        if next(examples) > TRACED_EXAMPLES + 1:
            measured.start()


def _coverage() -> Any:  # noqa: ANN401 - a coverage.Coverage
    """Return what measures coverage in this process, None where nothing does."""
    module = sys.modules.get("coverage")
    return None if module is None else module.Coverage.current()
