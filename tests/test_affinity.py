"""Which server of a fleet a session's questions go to: always the same, each server as often, few of them moved."""

from __future__ import annotations

from collections import Counter

from edgespec.core.where import Question
from edgespec.fleet.affinity import ranked

SERVERS = [f"server{number}" for number in range(4)]
SESSIONS = [f"session{number}" for number in range(1000)]


def test_a_session_has_one_server_in_whatever_order_they_are_listed() -> None:
    for session in SESSIONS[:20]:
        assert ranked(session, SERVERS) == ranked(session, reversed(SERVERS))
        assert sorted(ranked(session, SERVERS)) == SERVERS


def test_servers_have_equal_shares_and_so_have_those_that_stand_in_for_a_lost_one() -> None:
    for lost in ([], SERVERS[:1]):
        there = [server for server in SERVERS if server not in lost]
        counts = Counter(ranked(session, there)[0] for session in SESSIONS)
        assert all(abs(counts[server] * len(there) / len(SESSIONS) - 1) < 0.2 for server in there)


def test_a_server_that_goes_moves_its_own_sessions_only() -> None:
    for session in SESSIONS:
        before, after = ranked(session, SERVERS)[0], ranked(session, SERVERS[1:])[0]
        assert after == before or before == SERVERS[0]


def test_under_other_names_a_session_meets_every_server() -> None:
    question, met = Question("session"), set[str]()
    for _ in range(40):
        met.add(ranked(question.session, SERVERS)[0])
        question = question.elsewhere()
    assert met == set(SERVERS)
