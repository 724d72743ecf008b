"""The sessions of a server by number, and how long it keeps those whose edge is away. Pure.

The listener brings an edge that returns back to its session (csrc/net/listener.hpp). This table decides when waiting
for it ends: after `resume_for_s`, when its device has too many sessions away, or when another session needs the room.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

SessionType = TypeVar("SessionType")

MOST_AWAY = 16
"""Sessions of one device that are kept while it is away; of more, the one that has been away longest ends."""


@dataclass
class _Entry(Generic[SessionType]):
    session: SessionType
    device: Hashable
    away_since_s: float | None = None


class SessionTable(Mapping[int, SessionType]):
    """number -> session. resume_for_s: how long an edge may be away."""

    def __init__(self, resume_for_s: float = 60.0, most_away: int = MOST_AWAY) -> None:
        self._resume_for_s = resume_for_s
        self._most_away = most_away
        self._entries: dict[int, _Entry[SessionType]] = {}

    def __getitem__(self, number: int) -> SessionType:
        return self._entries[number].session

    def __iter__(self) -> Iterator[int]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, number: int, device: Hashable, session: SessionType) -> None:
        self._entries[number] = _Entry(session, device)

    def remove(self, number: int) -> SessionType | None:
        entry = self._entries.pop(number, None)
        return None if entry is None else entry.session

    def of_devices_but(self, may_stay: Callable[[Any], bool]) -> list[int]:
        """The sessions of devices that may not stay, whether their edges are connected or away."""
        return [number for number, entry in self._entries.items() if not may_stay(entry.device)]

    def away(self, number: int, now_s: float) -> int | None:
        """The session's edge has lost its connections; returns the session that must end for it, if one must."""
        entry = self._entries[number]
        entry.away_since_s = now_s
        of_device = [other for other in self._absent() if self._entries[other].device == entry.device]
        return of_device[0] if len(of_device) > self._most_away else None

    def returned(self, number: int) -> None:
        self._entries[number].away_since_s = None

    def longest_away(self) -> int | None:
        """The session whose edge has been away for longest; None: every edge is connected."""
        return next(iter(self._absent()), None)

    def expired(self, now_s: float) -> list[int]:
        """The sessions that have waited for their edges for `resume_for_s`."""
        return [number for number in self._absent() if self._left_s(number, now_s) <= 0]

    def next_expiry_s(self, now_s: float) -> float | None:
        """Seconds until the next session expires; None: none will."""
        number = self.longest_away()
        return None if number is None else max(0.0, self._left_s(number, now_s))

    def _absent(self) -> list[int]:
        """The sessions whose edge is away, the longest away first."""
        absent = {n: p.away_since_s for n, p in self._entries.items() if p.away_since_s is not None}
        return sorted(absent, key=absent.__getitem__)

    def _left_s(self, number: int, now_s: float) -> float:
        since_s = self._entries[number].away_since_s
        assert since_s is not None, "only a session whose edge is away expires"
        return since_s + self._resume_for_s - now_s
