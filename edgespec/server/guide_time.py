"""The time that a device's guides take of the server: a share of it, while other devices wait. Pure.

A guide is compiled in a thread when its session opens, and gives masks in each of its forwards, in the server's loop.
What that takes is charged to the device. A device in debt opens no session with a guide, and those that it has leave
forwards to others' sessions until the debt is paid.
"""

from __future__ import annotations

from edgespec.server.rate import Rate

SHARE = 0.2
"""Of the time that passes: how fast a debt is paid."""

FREE_S = 0.1
"""What a device has at the beginning, and saves up at most."""


class GuideTime(Rate):
    """One device's account, in seconds."""

    def __init__(self) -> None:
        super().__init__(SHARE, FREE_S)
