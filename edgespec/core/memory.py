"""Memory that this process may still take before the kernel ends it."""

from __future__ import annotations

import os
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")


def available_memory_bytes() -> float:
    """The machine's free memory, or what is left of the limit that a container or a service has."""
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
        machine = next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        machine = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) / 2
    try:
        limit, used, kinds = (
            (GROUP / f"memory.{name}").read_text(encoding="ascii") for name in ("max", "current", "stat")
        )
        # Files that were read count as used until the kernel needs their place.
        files = next(
            (int(line.split()[1]) for line in kinds.splitlines() if line.startswith("inactive_file ")), 0
        )
        return min(machine, float(limit) - float(used) + files)
    except (OSError, ValueError):  # no group here, or its limit is "max"
        return machine
