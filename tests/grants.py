"""What a scheduler grants, by session."""

from __future__ import annotations

from collections.abc import Sequence

from edgespec.verifying.offer import Grant, Offer
from edgespec.verifying.scheduler import Scheduler


def grants(scheduler: Scheduler, offered: Sequence[Offer], now_s: float = 0.0) -> dict[int, Grant]:
    return {grant.session: grant for grant in scheduler.form(offered, now_s)}
