"""Keys on the command line are those of TOML: parts may be quoted."""

from __future__ import annotations

from typing import Any

import pytest

from qanas.core.keys import set_key


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ('layers."head.0".weight_bits=4', {"layers": {"head.0": {"weight_bits": 4}}}),
        ("layers.'head.0'.weight_bits = 4", {"layers": {"head.0": {"weight_bits": 4}}}),
        ('objectives."latency_ms@host"=minimize', {"objectives": {"latency_ms@host": "minimize"}}),
        ("objectives.latency_ms@host=minimize", {"objectives": {"latency_ms@host": "minimize"}}),
        (" strategy . trials = 20", {"strategy": {"trials": 20}}),
        ("task.data=it's here", {"task": {"data": "it's here"}}),
        ("task.it's=3", {"task": {"it's": 3}}),
    ],
)
def test_a_key_is_read_as_toml_reads_it(override: str, expected: dict[str, Any]) -> None:
    content: dict[str, Any] = {}
    set_key(content, override)
    assert content == expected
