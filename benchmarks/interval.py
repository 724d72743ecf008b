"""A 95 % interval of how many times as fast a mode is, over prompts drawn again (the bootstrap: Efron, 1979).

Prompts are drawn together with their runs in `cloud`, so a prompt whose text is slow for every mode widens nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgespec.cli.demo.figures import Run

DRAWS = 2000
PERCENT = (2.5, 97.5)


def speed_interval(runs: Sequence[Run], cloud: Sequence[Run]) -> dict[str, float]:
    """Of `speed_vs_cloud` of runs, prompt by prompt beside those of `cloud`; nothing of fewer than three prompts."""
    if len(runs) < 3 or [one.prompt for one in runs] != [one.prompt for one in cloud]:
        return {}
    own, others = (
        np.array([(one.statistics.committed, one.statistics.seconds) for one in each])
        for each in (runs, cloud)
    )
    drawn = np.random.default_rng(0).integers(0, len(runs), (DRAWS, len(runs)))
    speeds, cloud_speeds = (each[drawn].sum(axis=1) for each in (own, others))
    ratios = (speeds[:, 0] / speeds[:, 1]) / (cloud_speeds[:, 0] / cloud_speeds[:, 1])
    low, high = np.percentile(ratios, PERCENT)
    return {"speed_low": float(low), "speed_high": float(high)}
