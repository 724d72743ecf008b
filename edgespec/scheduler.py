"""The scheduler: which session's rows go into the next forward. Pure.

One session a forward, in turn: the ready session that has waited longest goes first, so none starves.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar


class Ready(Protocol):
    """A session as the scheduler sees it."""

    @property
    def ready(self) -> bool: ...


SessionType = TypeVar("SessionType", bound=Ready)


class Scheduler(Generic[SessionType]):
    """Sessions in the order in which they were last served."""

    def __init__(self) -> None:
        self._turns: list[SessionType] = []

    def add(self, session: SessionType) -> None:
        self._turns.append(session)

    def remove(self, session: SessionType) -> None:
        self._turns.remove(session)

    def next(self) -> SessionType | None:
        """The session whose forward is next; it goes to the back of the row."""
        for i, session in enumerate(self._turns):
            if session.ready:
                self._turns.append(self._turns.pop(i))
                return session
        return None
