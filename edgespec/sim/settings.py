"""Named situations: links and engines that others have published, for `edgespec plan --setting NAME`. Milliseconds.

The paper (arXiv 2505.21594) gives its draft's time for a block of four tokens: a quarter of it is one level's.
"""

from __future__ import annotations

NAMED: dict[str, dict[str, float]] = {
    "paper-jetson": {"draft_ms": 301 / 4, "forward_ms": 522.0, "rtt_ms": 96.0},
    "paper-rtx": {"draft_ms": 99 / 4, "forward_ms": 467.0, "rtt_ms": 47.0},
    "go2": {"draft_ms": 288 / 4, "forward_ms": 620.0, "rtt_ms": 120.0},
    "a100-orin": {"draft_ms": 6.0, "forward_ms": 28.0},
}
