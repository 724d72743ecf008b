"""The forms that the tables of kernel tests run over; Triton's in a process of its own, where its interpreter is on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgespec import _native

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

triton = pytest.param(
    "triton", marks=pytest.mark.skipif(not INTERPRETED, reason="runs in the interpreter's own process")
)

FORMS = ["cpu", triton]

LEVELS = _native.cpu_levels()


def assert_passes_in_the_interpreter(test_file: str) -> None:
    """The cases of `test_file` that are marked with the form "triton" pass under TRITON_INTERPRET=1."""
    pytest.importorskip("triton")
    if INTERPRETED:
        pytest.skip("this is the interpreter's process")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-k",
        "triton and not interpreter",
        "--timeout=300",
        test_file,
    ]
    here = Path(__file__).parent
    done = subprocess.run(command, env=environment, cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
