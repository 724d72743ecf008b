"""How many replicas a fleet needs: as many as bring the mean of their loads to the one that is asked for.

A replica's load is what it tells in `POST /where`: of its sessions, its key-value memory and the latency promised, the
largest share that is taken. Ray Serve collects it, over the one asked for, and waits before it follows (its delays). A
replica that goes finishes its texts first, or its devices take them to another one.
"""

from __future__ import annotations

import math
from typing import Any

LOAD = "load_over_target"
SETTLED = 0.1
"""A fleet whose load is within this share of the one asked for stays as it is."""


def by_load(context: Any) -> tuple[int, dict[str, Any]]:
    """Serve's policy function, of its `AutoscalingContext`: (replicas wanted, nothing to remember)."""
    loads = (context.aggregated_metrics or {}).get(LOAD, {})
    return wanted(list(loads.values()), context.target_num_replicas), {}


def wanted(loads: list[float], replicas: int) -> int:
    """loads: over the one asked for, of the replicas that have told theirs. replicas: that there are, or are being
    started."""
    if not loads or abs(sum(loads) / len(loads) - 1.0) <= SETTLED:
        return replicas
    return max(1, math.ceil(sum(loads) - 1e-9))
