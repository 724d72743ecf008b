"""What an edge process costs a small device: memory, and time until the first token. No torch, no server.

Times are of the processor, so that other work on the machine does not count.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "benchmarks" / "edge.py").exists():
    pytest.skip("the benchmarks are not here", allow_module_level=True)
sys.path.append(str(ROOT))

from benchmarks.edge import process  # noqa: E402

LARGEST_MIB, LARGEST_ABOVE_RUNTIME_MIB = 150, 60
IMPORT_S, FIRST_TOKEN_S = 0.25, 1.5


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_edge_with_the_bundled_draft_is_small_and_soon_there() -> None:
    figures = process()
    assert figures["mib"] <= LARGEST_MIB
    assert figures["above_runtime_mib"] <= LARGEST_ABOVE_RUNTIME_MIB
    assert figures["import_s"] <= IMPORT_S
    assert figures["first_token_s"] <= FIRST_TOKEN_S
