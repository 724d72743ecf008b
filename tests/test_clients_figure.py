"""How many clients a server carries within a latency (benchmarks/clients.py of the source tree)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "benchmarks" / "clients.py").exists():
    pytest.skip("the benchmarks are not here", allow_module_level=True)
sys.path.append(str(ROOT))

from benchmarks.clients import carried  # noqa: E402

MEASURED = [(1, 20.0), (2, 30.0), (4, 50.0)]


@pytest.mark.parametrize(
    ("latency_ms", "clients"), [(19.0, 0.0), (20.0, 1.0), (25.0, 1.5), (40.0, 3.0), (50.0, 4.0), (90.0, 4.0)]
)
def test_clients_within_a_latency_lie_between_two_measured_numbers(latency_ms: float, clients: float) -> None:
    assert carried(MEASURED, latency_ms) == clients


def test_a_number_that_is_slower_than_the_latency_ends_the_search() -> None:
    assert carried([(1, 20.0), (2, 40.0), (4, 25.0)], 30.0) == 1.5
