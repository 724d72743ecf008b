"""Which server of a fleet answers a session's questions: for one name always the same server, as long as it is there.

So a session that comes back finds its keys and values. A server that has no room says so, and the session asks under
another name (`Question.elsewhere`). Servers that come or go move no session of the others. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def ranked(session: str, servers: Iterable[str]) -> list[str]:
    """All of them, the session's own first."""
    return sorted(servers, key=lambda server: hashlib.blake2b(f"{server} {session}".encode()).digest())
