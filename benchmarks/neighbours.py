"""Whether `auto` makes anybody slower than `cloud` where many sessions write at once on one server.

    python -m benchmarks.neighbours --json docs/results/neighbours.json

Simulated: the product's loops on a simulated clock. Sessions are cold, and all write at once: each the same texts in
`cloud` and in `auto`. Their drafts are right alike (in 50 of 100 cases), or unlike: in 30, 75, 60 and 75 of 100 cases,
in turn. A session's speed is that of its `texts` texts together.

A short text is lucky or not with its drafts. So `worst_drafts` names the sessions whose drafts are worst, all together,
with a 95 % interval over their texts; the slowest session and the slowest text are the unluckiest of many.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.interval import ratio_interval
from benchmarks.results import Results, options
from edgespec.drafting.auto import Auto
from edgespec.drafting.policies import Cloud
from edgespec.sim.fleet import together
from edgespec.sim.plan import Situation

NOTES = (
    "Simulated: the product's own loops on a simulated clock, with scripted models. Forwards take 28 ms, a row adds "
    "the share named, a run of the draft takes 6 ms. Speeds are multiples of the same sessions' in `cloud`."
)
DRAFTS: dict[str, tuple[float, ...]] = {"alike": (0.5,), "unlike": (0.3, 0.75, 0.6, 0.75)}
"""How often the drafts are right, of one session after the other."""


def main() -> int:
    quick = {"sessions": [4], "row_shares": [0.04], "rtt_ms": [40.0], "tokens": [16], "texts": 1}
    arguments = options(
        "neighbours", __doc__, quick,
        sessions=([8, 32], "that write at once on the server"),
        row_shares=([0.01, 0.04], "what a further row adds to a forward, as a share of it"),
        rtt_ms=[0.0, 40.0, 160.0], tokens=([64, 200], "of a text"), texts=(3, "that each session writes"),
    )  # fmt: skip
    results = Results("neighbours", NOTES, arguments.json)
    cells = itertools.product(
        arguments.sessions, arguments.row_shares, arguments.rtt_ms, DRAFTS, arguments.tokens
    )
    for sessions, row_share, rtt_ms, drafts, tokens in cells:
        situation = Situation(rtt_ms, forward_row_share=row_share)
        named = {
            "sessions": sessions,
            "row_share": row_share,
            "rtt_ms": rtt_ms,
            "drafts": drafts,
            "tokens": tokens,
        }
        results.add(named | measured(situation, DRAFTS[drafts], sessions, tokens, arguments.texts))
    return 0


def measured(
    situation: Situation, acceptances: Sequence[float], sessions: int, tokens: int, texts: int
) -> dict[str, Any]:
    def each_ms(make_policy: type[Auto] | type[Cloud]) -> NDArray[np.float64]:
        """Milliseconds a token, by text and session."""
        seeds = (1 + 1000 * text for text in range(texts))
        return np.array(
            [
                together(situation, make_policy, sessions, tokens, acceptances=acceptances, first_seed=seed)
                for seed in seeds
            ]
        )

    cloud_ms, auto_ms = each_ms(Cloud), each_ms(Auto)
    worst = np.arange(sessions) % len(acceptances) == int(np.argmin(acceptances))
    own, others = (
        np.stack([np.ones(ms[:, worst].size), ms[:, worst].ravel()], axis=1) for ms in (auto_ms, cloud_ms)
    )
    low, high = ratio_interval(own, others)
    return {
        "mean": float(cloud_ms.sum() / auto_ms.sum()),
        "worst_drafts": float(others[:, 1].sum() / own[:, 1].sum()),
        "worst_drafts_low": low,
        "worst_drafts_high": high,
        "slowest_session": float((cloud_ms.sum(axis=0) / auto_ms.sum(axis=0)).min()),
        "slowest_text": float((cloud_ms / auto_ms).min()),
        "texts_slower_percent": float(100 * (auto_ms > cloud_ms).mean()),
    }


if __name__ == "__main__":
    sys.exit(main())
