"""Every case of a kernel's Triton backend passes in Triton's interpreter, in a process of its own that has no GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kernel_backends import INTERPRETED

HERE = Path(__file__).parent


def files_with_backends() -> list[Path]:
    """Those whose cases run over kernel_backends.BACKENDS, of which "triton" is one."""
    others = sorted(set(HERE.glob("test_*.py")) - {Path(__file__)})
    return [file for file in others if "kernel_backends import BACKENDS" in file.read_text(encoding="utf-8")]


@pytest.mark.timeout(600)
@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter's process")
def test_the_triton_forms_pass() -> None:
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    options = ["-q", "-rA", "-k", "triton and not interpreter", "--timeout=300"]
    command = [sys.executable, "-m", "pytest", *options, *(file.name for file in files_with_backends())]
    done = subprocess.run(command, env=environment, cwd=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    for file in files_with_backends():
        assert f"PASSED {file.name}" in done.stdout, f"{file.name} has no case of the Triton backend"
