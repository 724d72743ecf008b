"""The kernels' share of the memory's speed on this machine, one thread and all: the tables of docs/kernels.md.

python -m benchmarks.roofline [--json FILE] [--shapes 32000x4096] [--rows 1,8] [--no-compiled] ...

Options beside --json are those of `edgespec bench kernels`, which measures and prints; --json keeps both runs' rows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import results, save
from edgespec.child import COMMAND

BUSY_LOAD = 0.5
"""Processes that want to run, before the first measurement, from which on the machine counts as shared."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    own, options = parser.parse_known_args(arguments)
    notes = _notes(os.getloadavg()[0])
    cells: list[dict[str, Any]] = []
    for threads in sorted({1, len(os.sched_getaffinity(0))}):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "kernels.json"
            command = [*COMMAND, "bench", "kernels", *options, "--threads", str(threads), "--json", str(file)]
            status = subprocess.run(command, check=False).returncode
            cells += json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
        if own.json is not None and cells:
            save(results("kernels", cells, notes), own.json)
        if status:
            return status
    return 0


def _notes(load: float) -> str:
    alone = (
        "Nothing else ran." if load < BUSY_LOAD else f"Other work shared the cores (load average {load:.1f})."
    )
    return f"{alone} Medians; kernel, torch and the reading of memory took turns."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
