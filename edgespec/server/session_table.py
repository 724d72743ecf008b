"""The sessions a server holds, by their numbers, and for how long it keeps those whose edge is away. Pure.

The link knows a session by the 16 bytes its edge chose, and brings an edge that returns back to it
(csrc/net/listener.hpp); here is decided when waiting for it ends: after `resume_for_s`, when its device has too
many sessions away, or when another needs the room.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

SessionType = TypeVar("SessionType")

MOST_AWAY = 16
"""Sessions of one device that are kept while it is away; beyond that the longest away ends."""


@dataclass
class _Place(Generic[SessionType]):
    session: SessionType
    device: Hashable
    away_since_s: float | None = None


class SessionTable(Mapping[int, SessionType]):
    """number -> session. resume_for_s: how long an edge may be away."""

    def __init__(self, resume_for_s: float = 60.0, most_away: int = MOST_AWAY) -> None:
        self._resume_for_s = resume_for_s
        self._most_away = most_away
        self._places: dict[int, _Place[SessionType]] = {}

    def __getitem__(self, number: int) -> SessionType:
        return self._places[number].session

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def add(self, number: int, device: Hashable, session: SessionType) -> None:
        self._places[number] = _Place(session, device)

    def remove(self, number: int) -> SessionType | None:
        place = self._places.pop(number, None)
        return None if place is None else place.session

    def of_devices_but(self, may_stay: Callable[[Any], bool]) -> list[int]:
        """The sessions of devices that may not stay, whether their edges are there or away."""
        return [number for number, place in self._places.items() if not may_stay(place.device)]

    def away(self, number: int, now_s: float) -> int | None:
        """The edge of this session has no connection any more; the session that must end for it, if one must."""
        place = self._places[number]
        place.away_since_s = now_s
        of_device = [other for other in self._absent() if self._places[other].device == place.device]
        return of_device[0] if len(of_device) > self._most_away else None

    def returned(self, number: int) -> None:
        self._places[number].away_since_s = None

    def longest_away(self) -> int | None:
        """The session that can give its room up first; None: every edge is there."""
        return next(iter(self._absent()), None)

    def expired(self, now_s: float) -> list[int]:
        """The sessions that have waited long enough for their edges."""
        return [number for number in self._absent() if self._left_s(number, now_s) <= 0]

    def next_expiry_s(self, now_s: float) -> float | None:
        """Seconds until the next of them expires; None: none will."""
        number = self.longest_away()
        return None if number is None else max(0.0, self._left_s(number, now_s))

    def _absent(self) -> list[int]:
        """The sessions whose edge is away, the longest away first."""
        absent = {n: p.away_since_s for n, p in self._places.items() if p.away_since_s is not None}
        return sorted(absent, key=absent.__getitem__)

    def _left_s(self, number: int, now_s: float) -> float:
        since_s = self._places[number].away_since_s
        assert since_s is not None, "only a session whose edge is away expires"
        return since_s + self._resume_for_s - now_s
