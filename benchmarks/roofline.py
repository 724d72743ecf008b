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
from edgespec.cli.child import COMMAND

BUSY_LOAD = 0.5
"""Processes that want to run, beside the measurement's own threads, from which on the machine counts as shared."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    own, options = parser.parse_known_args(arguments)
    before = os.getloadavg()[0]
    cells: list[dict[str, Any]] = []
    for threads in sorted({1, len(os.sched_getaffinity(0))}):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "kernels.json"
            command = [*COMMAND, "bench", "kernels", *options, "--threads", str(threads), "--json", str(file)]
            status = subprocess.run(command, check=False).returncode
            cells += json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
        if own.json is not None and cells:
            save(results("kernels", cells, _notes(before, os.getloadavg()[0], threads)), own.json)
        if status:
            return status
    return 0


def _notes(before: float, after: float, threads: int) -> str:
    alone = max(before, after - threads) < BUSY_LOAD
    shared = f"Other work shared the cores (load average {before:.1f} before, {after:.1f} after)."
    kept = "Medians; kernel, torch and the reading of memory took turns."
    return f"{'Nothing else ran.' if alone else shared} {kept}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
