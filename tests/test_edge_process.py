"""What an edge process costs a small device: memory, and time until the first token. No torch, no server.

Times are of the processor, so that other work on the machine does not count.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

LARGEST_MIB, LARGEST_ABOVE_RUNTIME_MIB = 150, 60
IMPORT_S, FIRST_TOKEN_S = 0.25, 1.5

REPORT = """
import json, re, sys, time
status = open("/proc/self/status").read()
mib = int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) / 1024
print(json.dumps({"mib": mib, "torch": "torch" in sys.modules, **times}))
"""
RUNTIME = "import numpy, onnxruntime, tokenizers; times = {}"
EDGE = """
import time
started = time.process_time()
import edgespec
times = {"import_s": time.process_time() - started}
from edgespec.edge.device_session import DeviceSession
with DeviceSession(
    edgespec.load_draft(edgespec.bundled_engine()), edgespec.SamplingParams(max_new_tokens=64)
) as session:
    session.prompt("def read_lines(path):\\n")
    session.step()
    times["first_token_s"] = time.process_time() - started
    list(session)
"""


def measured(program: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", program + REPORT], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_edge_with_the_bundled_draft_is_small_and_soon_there() -> None:
    runtime, edge = measured(RUNTIME), measured(EDGE)
    assert not edge["torch"]
    assert edge["mib"] <= LARGEST_MIB
    assert edge["mib"] - runtime["mib"] <= LARGEST_ABOVE_RUNTIME_MIB
    assert edge["import_s"] <= IMPORT_S
    assert edge["first_token_s"] <= FIRST_TOKEN_S
