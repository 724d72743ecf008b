"""The time that a device's guides and hosted drafts take of the server: a share of it, while other devices wait. Pure.

A guide is compiled in a thread when its session opens, and gives masks in each of its forwards, in the server's loop.
A hosted draft runs in that loop before its session's forwards. What that takes is charged to the device. In debt, it
opens no session with a guide, and its sessions with guides or hosted drafts leave forwards to others until the debt is
paid.
"""

from __future__ import annotations

from edgespec.server.rate import Rate

GUIDES_SHARE, DRAFTS_SHARE = 0.2, 0.1
"""Of the time that passes: how fast a debt is paid."""

GUIDES_FREE_S, DRAFTS_FREE_S = 0.1, 0.005
"""What a device has at the beginning, and saves up at most."""


class GuideTime(Rate):
    """One device's account of what its guides take, in seconds."""

    def __init__(self) -> None:
        super().__init__(GUIDES_SHARE, GUIDES_FREE_S)


class DraftTime(Rate):
    """One device's account of what drafts that the server makes for it take, in seconds."""

    def __init__(self) -> None:
        super().__init__(DRAFTS_SHARE, DRAFTS_FREE_S)
