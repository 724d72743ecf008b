"""A 95 % interval of how many times as fast something is, over prompts drawn again (the bootstrap: Efron, 1979).

Prompts are drawn together with their runs in `cloud`, so a prompt whose text is slow for every mode widens nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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
    low, high = ratio_interval(own, others)
    return {"speed_low": low, "speed_high": high}


def ratio_interval(own: NDArray[np.float64], others: NDArray[np.float64]) -> tuple[float, float]:
    """Of the speed of `own` over that of `others`, each [prompts, 2]: tokens and seconds of each prompt."""
    drawn = np.random.default_rng(0).integers(0, len(own), (DRAWS, len(own)))
    speeds, other_speeds = (each[drawn].sum(axis=1) for each in (own, others))
    ratios = (speeds[:, 0] / speeds[:, 1]) / (other_speeds[:, 0] / other_speeds[:, 1])
    low, high = np.percentile(ratios, PERCENT)
    return float(low), float(high)
