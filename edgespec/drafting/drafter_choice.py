"""Who drafts for `auto`: this device, or the server where it hosts a draft. Both are tried, and the faster is kept."""

import math

from edgespec.core.calibration_ratios import SURE
from edgespec.core.costs import TokenTime
from edgespec.core.measurements import Measurements

TRIAL_FORWARDS = 8
"""Forwards with a drafter before the one that was tried less has its turn."""

LEAST_FORWARDS = 2
"""Forwards with a drafter before it is given up, however slow it is."""

LONG_RTT = 0.5
"""From a round trip of this many forwards on, drafts of the device come late: the server's is tried at once."""

FASTER = 0.95
"""The other drafter's time a token, as a share of this one's, below which it is chosen."""

HOPELESS = 1.5
"""A drafter whose time a token is this multiple of the other's has no turn, although little was seen of it."""

LONGEST_TRIAL = 24
"""Forwards with either of them after which the faster one is kept; before, only one that is certainly faster. With
fewer, the slower one is kept in more than one text of a hundred (simulated)."""

RETRY_FORWARDS = 128
"""Forwards until the slower drafter is tried again, if it was hardly slower. Doubled at each retry."""


class DrafterChoice:
    """server_drafts: the server drafts for now. reason: why, in words."""

    def __init__(self) -> None:
        self.server_drafts = False
        self._trial_start: int | None = None
        self._retry_after = RETRY_FORWARDS
        self._token_ms = (0.0, 0.0)

    def update(self, measurements: Measurements) -> None:
        own, server = measurements.own_draft_token_ms, measurements.server_draft_token_ms
        this, other = (server, own) if self.server_drafts else (own, server)
        if self._trial_start is None:
            self._trial_start = this.seen
            change = self._at_first(measurements)
        else:
            change = self._after(this.seen - self._trial_start, measurements, this, other)
        if change:
            self.server_drafts = not self.server_drafts
            self._trial_start = other.seen
        self._token_ms = own(), server()

    def _at_first(self, measurements: Measurements) -> bool:
        """Whether the server drafts from the start, after an earlier session: where that was faster, or was not tried
        in full, or was slower so long ago that it is tried again."""
        own, server = measurements.own_draft_token_ms, measurements.server_draft_token_ms
        if not (own.seen and server.seen >= TRIAL_FORWARDS):
            return own.seen >= TRIAL_FORWARDS
        faster = server() < FASTER * own()
        slow, quick = (own, server) if faster else (server, own)
        since = measurements.forwards - slow.last_forward
        long_ago = since * quick() ** 2 >= RETRY_FORWARDS * slow() ** 2
        return faster != long_ago

    def _after(self, forwards: int, measurements: Measurements, this: TokenTime, other: TokenTime) -> bool:
        """Whether to change after this many forwards with one drafter."""
        if not other.seen:
            long_rtt = (measurements.rtt_ms or 0.0) > LONG_RTT * measurements.forward_ms(1)
            return forwards >= (1 if long_rtt else TRIAL_FORWARDS)
        if forwards < LEAST_FORWARDS:
            return False
        other_share = other() / this() if this() else 1.0
        if forwards >= self._retry_after * other_share**2:
            self._retry_after *= 2
            return True
        faster = other_share < FASTER
        certain = abs(this() - other()) > SURE * math.hypot(this.error_ms, other.error_ms)
        if certain or min(this.seen, other.seen) >= LONGEST_TRIAL:
            return faster
        return forwards >= TRIAL_FORWARDS and other.seen < this.seen and other_share < HOPELESS

    @property
    def reason(self) -> str:
        own_ms, server_ms = self._token_ms
        return (
            f"{'the server' if self.server_drafts else 'this device'} drafts: {own_ms:.3g} ms a token with drafts "
            f"from here, {format(server_ms, '.3g') + ' ms' if server_ms else 'not yet tried'} with the server's own"
        )
