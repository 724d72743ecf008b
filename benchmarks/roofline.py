"""The kernels' share of the memory's speed on this machine, one thread and all: the table of `edgespec bench kernels`.

python -m benchmarks.roofline [--shapes 32000x4096] [--rows 1,8] [--no-compiled] ...
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from edgespec.child import COMMAND


def main(arguments: Sequence[str]) -> int:
    """One table for each number of threads; options are those of `edgespec bench kernels`."""
    for threads in sorted({1, len(os.sched_getaffinity(0))}):
        command = [*COMMAND, "bench", "kernels", *arguments, "--threads", str(threads)]
        if status := subprocess.run(command, check=False).returncode:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
