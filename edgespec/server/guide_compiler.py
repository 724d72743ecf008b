"""Guides of sessions, compiled off the server's loop: a large schema takes a tenth of a second. A session runs once its
guide is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from math import ceil

from edgespec import _native
from edgespec.core.errors import EdgespecError
from edgespec.core.guide import Guide
from edgespec.core.guide_matcher import Guides, Matcher
from edgespec.server.guide_time import GuideTime
from edgespec.server.open_sessions import OpenSessions
from edgespec.server.refusal import Refused
from edgespec.server.server_session import ServerSession
from edgespec.server.work_in_turns import WorkInTurns

Code = _native.ErrorCode


class GuideCompiler:
    """call: runs a function in the server's loop, from any thread."""

    def __init__(
        self, guides: Guides, sessions: OpenSessions, call: Callable[[Callable[[], object]], object]
    ) -> None:
        self._guides = guides
        self._sessions = sessions
        self._work = WorkInTurns("guides", call)

    def check(self, guide_time: GuideTime) -> None:
        """Raises Refused where the device is in debt."""
        if owed_s := guide_time.owed_s(time.monotonic()):
            message = "the device's guides take more of the server's time than its share"
            raise Refused(Code.LIMIT, message, retry_after_ms=ceil(owed_s * 1e3))

    def compile(self, session: ServerSession, guide: Guide) -> None:
        """The session, which is among the open ones, waits for it; it ends where the guide cannot be used."""
        session.state.waiting_for += 1
        self._work.add(
            session.holder, partial(self._in_thread, session, guide), partial(self._wanted, session)
        )

    def close(self) -> None:
        self._work.close()

    def _wanted(self, session: ServerSession) -> bool:
        """Its device may have come into debt by the guides before it."""
        if self._sessions.table.get(session.number) is not session:
            return False
        try:
            self.check(session.guide_time)
        except Refused as refused:
            self._sessions.refuse(session.number, refused)
            return False
        return True

    def _in_thread(self, session: ServerSession, guide: Guide) -> Callable[[], object]:
        bill = _Bill(session.guide_time)
        try:
            matcher = self._guides.matcher(guide, bill.add)
        except EdgespecError as error:
            return partial(self._failed, session, bill, Refused(Code.PARAMETER, str(error)))
        except Exception as error:
            return partial(self._failed, session, bill, Refused.internal("guide's compiler", error))
        return partial(self._compiled, session, bill, matcher)

    def _compiled(self, session: ServerSession, bill: _Bill, matcher: Matcher) -> None:
        bill.charge()
        session.constraints.matcher = matcher
        session.state.waiting_for -= 1

    def _failed(self, session: ServerSession, bill: _Bill, refused: Refused) -> None:
        bill.charge()
        if self._sessions.table.get(session.number) is session:
            self._sessions.refuse(session.number, refused)


class _Bill:
    """What one guide takes. The account belongs to the server's loop: until `charge`, seconds are only noted."""

    def __init__(self, account: GuideTime) -> None:
        self._account = account
        self._noted_s: float | None = 0.0

    def add(self, seconds: float) -> None:
        if self._noted_s is None:
            self._account.spend(seconds, time.monotonic())
        else:
            self._noted_s += seconds

    def charge(self) -> None:
        noted_s, self._noted_s = self._noted_s, None
        self._account.spend(noted_s or 0.0, time.monotonic())
