"""Pictures and requests put to a target over sessions: one session an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgespec.edge.session import Session
from edgespec.edge.step import Step
from edgespec.robot.mission import Picture


class SessionAsk:
    """An `Ask` over edgespec's sessions. open_session: opens one. period_s: the longest that a step takes to return.

    Raises EdgespecError while an answer is awaited where the server is lost for good.
    """

    def __init__(self, open_session: Callable[[], Session], period_s: float = 0.05) -> None:
        self._open, self._period_s = open_session, period_s
        self._cancelled = False

    def __call__(self, picture: Picture, request: str) -> Iterator[Step]:
        self._cancelled = False
        with self._open() as session:
            parts = [{"type": "image", "image": picture}, {"type": "text", "text": request}]
            session.prompt([{"role": "user", "content": parts}])
            while not session.finished:
                if self._cancelled:
                    session.cancel()
                yield session.step(self._period_s)

    def cancel(self) -> None:
        """End the answer that is under way, from any thread."""
        self._cancelled = True
