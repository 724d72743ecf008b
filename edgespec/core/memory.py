"""Memory that this process has, and what it may still take before the kernel ends it."""

from __future__ import annotations

import math
import os
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
GROUPS = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")


def resident_bytes() -> int:
    """Of this process, in the machine's memory now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def available_memory_bytes() -> float:
    """The machine's free memory, or what is left of the limit that a container, a service or a slice has."""
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
        machine = next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        machine = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) / 2
    return min(machine, *(_left(folder) for folder in _groups()))


def _groups() -> list[Path]:
    """The folders of this process's control group and of those around it; a container sees its own as the root."""
    try:
        lines = OWN_GROUP.read_text(encoding="utf-8").splitlines()
        own = next(line.removeprefix("0::/") for line in lines if line.startswith("0::/"))
    except (OSError, StopIteration):
        own = ""
    parts = Path(own).parts
    return [GROUPS.joinpath(*parts[:length]) for length in range(len(parts) + 1)]


def _left(group: Path) -> float:
    try:
        limit, used, kinds = (
            (group / f"memory.{name}").read_text(encoding="ascii") for name in ("max", "current", "stat")
        )
        # Files that were read count as used until the kernel needs their place.
        files = next(
            (int(line.split()[1]) for line in kinds.splitlines() if line.startswith("inactive_file ")), 0
        )
        return float(limit) - float(used) + files
    except (OSError, ValueError):  # no such group, or its limit is "max"
        return math.inf
