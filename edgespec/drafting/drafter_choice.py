"""Who drafts for `auto`: this device, or the server where it hosts a draft. Both are tried, and the faster is kept."""

from edgespec.core.measurements import Measurements

TRIAL_FORWARDS = 8
"""Forwards with either drafter before the two are compared."""

LONG_RTT = 0.5
"""From a round trip of this many forwards on, drafts of the device come late: the server's is tried at once."""

FASTER = 0.95
"""The other drafter's time a token, as a share of this one's, below which it is chosen."""

MUCH_SLOWER = 0.5
"""This drafter is given up early where the other takes less than this share of its time a token."""

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
        other_share = other() / this() if this() and other.seen else 1.0
        if self._trial_start is None:
            self._trial_start = this.seen
            change = self._at_first(measurements)
        else:
            change = self._after(this.seen - self._trial_start, measurements, other_share)
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
        long_ago = measurements.forwards - slow.last_forward >= RETRY_FORWARDS * (slow() / quick()) ** 2
        return faster != long_ago

    def _after(self, forwards: int, measurements: Measurements, other_share: float) -> bool:
        """Whether to change after this many forwards with one drafter."""
        other = measurements.own_draft_token_ms if self.server_drafts else measurements.server_draft_token_ms
        untried = not other.seen
        long_rtt = (measurements.rtt_ms or 0.0) > LONG_RTT * measurements.forward_ms(1)
        much_slower = other_share < MUCH_SLOWER and other.seen > 2
        retry = forwards >= self._retry_after * other_share**2
        if forwards < (1 if untried and long_rtt else 2 if much_slower else TRIAL_FORWARDS):
            return False
        self._retry_after *= 2 if retry else 1
        return untried or retry or other_share < FASTER

    @property
    def reason(self) -> str:
        own_ms, server_ms = self._token_ms
        return (
            f"{'the server' if self.server_drafts else 'this device'} drafts: {own_ms:.3g} ms a token with drafts "
            f"from here, {format(server_ms, '.3g') + ' ms' if server_ms else 'not yet tried'} with the server's own"
        )
