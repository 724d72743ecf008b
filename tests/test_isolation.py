"""Devices with tokens on one server: what one has keeps no other out, and what is revoked is cut off."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import raw_peer
from raw_peer import RawPeer, block, hello, opening
from scripted_models import HashModel
from stubs import VOCABULARY, VOCABULARY_HASH, StubTarget, serving

from edgespec.core.access import credential
from edgespec.core.row_constraints import RowConstraints
from edgespec.model.kv_pages import Pages
from edgespec.server.audit import DEVICE_A_MINUTE, STRANGERS_A_MINUTE, AuditLog
from edgespec.server.forwards import ForwardRunner
from edgespec.server.server import Server
from edgespec.server.server_session import ServerSession
from edgespec.server.settings import ServerSecurity
from edgespec.server.tokens import add_token, revoke
from edgespec.verifying.verifier import PlannedRows

PROMPT = [1, 2, 3]
MAX_WAIT_S = 20.0


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


@pytest.fixture
def shown(tokens: Path) -> dict[str, bytes]:
    """What each device says."""
    return {
        device: hello(VOCABULARY_HASH, credential(add_token(tokens, device))) for device in ("alice", "bob")
    }


@contextmanager
def server_with(
    tokens: Path, audit_log: Path | None = None, target: Any = None, **settings: Any
) -> Iterator[Server]:
    security = ServerSecurity(tokens=tokens, audit_log=audit_log)
    with serving(target or StubTarget(HashModel()), security=security, **settings) as server:
        yield server


def welcomed(server: Server, said: bytes) -> RawPeer:
    peer = RawPeer(server.port)
    peer.send(said)
    answer = peer.until(raw_peer.WELCOME, raw_peer.ERROR)
    assert answer is not None and answer.kind == raw_peer.WELCOME
    return peer


def until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + MAX_WAIT_S
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_a_revoked_device_is_cut_off_without_a_signal(
    tokens: Path, shown: dict[str, bytes], tmp_path: Path
) -> None:
    audit = tmp_path / "audit"
    with (
        server_with(tokens, audit) as server,
        welcomed(server, shown["alice"]) as alice,
        welcomed(server, shown["bob"]) as bob,
    ):
        bob.send(opening(1, bytes(16), PROMPT))
        assert bob.until(raw_peer.VERDICT) is not None
        revoke(tokens, "alice")
        error = alice.until(raw_peer.ERROR)
        assert error is not None and error.code == raw_peer.CREDENTIAL
        assert alice.closed()
        bob.send(opening(2, secrets.token_bytes(16), PROMPT))
        assert bob.until(raw_peer.VERDICT) is not None
    records = [json.loads(line) for line in audit.read_text().splitlines()]
    seen = [(record["event"], record["device"]) for record in records]
    assert ("welcomed", "alice") in seen and ("opened", "bob") in seen and ("cut", "alice") in seen
    assert audit.stat().st_mode & 0o777 == 0o600


def test_the_audit_log_says_why_a_device_left(tokens: Path, shown: dict[str, bytes], tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    with server_with(tokens, audit) as server:
        with welcomed(server, shown["alice"]) as alice:
            alice.send(bytes(64))
            assert alice.until(raw_peer.ERROR) is not None and alice.closed()
        until(lambda: '"left"' in audit.read_text())
    (left,) = (
        record for record in map(json.loads, audit.read_text().splitlines()) if record["event"] == "left"
    )
    assert left["device"] == "alice" and "frame" in left["reason"]


def test_a_new_token_is_known_without_a_signal(tokens: Path, shown: dict[str, bytes]) -> None:
    with server_with(tokens) as server:
        said = hello(VOCABULARY_HASH, credential(add_token(tokens, "carol")))

        def is_known() -> bool:
            with RawPeer(server.port) as peer:
                peer.send(said)
                answer = peer.until(raw_peer.WELCOME, raw_peer.ERROR)
                return answer is not None and answer.kind == raw_peer.WELCOME

        until(is_known)


def test_a_device_cannot_take_all_sessions(tokens: Path, shown: dict[str, bytes]) -> None:
    with server_with(tokens, max_sessions=8) as server, welcomed(server, shown["alice"]) as alice:
        for channel in range(1, 9):
            alice.send(opening(channel, secrets.token_bytes(16), PROMPT, max_new_tokens=100, fill=False))
        errors = [alice.until(raw_peer.ERROR) for _ in range(2)]
        assert [error.code for error in errors if error] == [raw_peer.OVERLOADED] * 2
        with welcomed(server, shown["bob"]) as bob:
            bob.send(opening(1, secrets.token_bytes(16), PROMPT))
            assert bob.until(raw_peer.VERDICT, raw_peer.ERROR).kind == raw_peer.VERDICT  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "refused",
    [
        lambda: opening(2, secrets.token_bytes(16), [VOCABULARY]),
        lambda: opening(2, secrets.token_bytes(16), PROMPT, latency_us=1),
        lambda: opening(2, secrets.token_bytes(16), PROMPT, needs_server_draft=True),
    ],
    ids=["a token that there is not", "a target that cannot be kept", "a draft, and none is free"],
)
def test_an_open_that_can_only_be_refused_evicts_nobody(
    refused: Callable[[], bytes], tokens: Path, shown: dict[str, bytes]
) -> None:
    with server_with(tokens, max_sessions=2, server_drafters=lambda *_: None) as server:
        session_id = secrets.token_bytes(16)
        with welcomed(server, shown["bob"]) as bob:
            bob.send(opening(1, session_id, PROMPT, max_new_tokens=50, fill=False))
            bob.send(block(1, 2, 0, [], []))
            assert bob.until(raw_peer.VERDICT) is not None
        with welcomed(server, shown["alice"]) as alice:
            alice.send(opening(1, secrets.token_bytes(16), PROMPT, fill=False))
            alice.send(refused())
            assert alice.until(raw_peer.ERROR) is not None
            with welcomed(server, shown["bob"]) as again:
                again.send(raw_peer.frame(raw_peer.RESUME, session_id + bytes(8), channel=1))
                answer = again.until(raw_peer.RESUME, raw_peer.ERROR)
                assert answer is not None and answer.kind == raw_peer.RESUME


def test_a_prefix_is_found_under_its_own_salt_only() -> None:
    pages = Pages(8)
    tokens = list(range(200))
    held = pages.take(3)
    pages.remember(tokens, held, salt=b"device alice")
    assert pages.find(tokens, salt=b"device alice") == held
    assert pages.find(tokens, salt=b"device bob") == []
    assert pages.find(tokens) == []


@pytest.fixture
def unhurried_intake(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that has come is taken in before the next forward, however busy the machine is."""
    monkeypatch.setattr("edgespec.server.intake.LEAST_S", MAX_WAIT_S)
    monkeypatch.setattr("edgespec.server.intake.MOST_S", MAX_WAIT_S)


def send_for_one_forward(server: Server, peer: RawPeer, frames: Sequence[bytes]) -> None:
    """The server's loop finds all of them at once: it is held until they are there."""
    held = threading.Event()
    server.call(lambda: held.wait(MAX_WAIT_S))
    peer.send(*frames, raw_peer.frame(raw_peer.PING, bytes(8)))
    assert peer.until(raw_peer.PONG) is not None
    held.set()


class Poisoned(StubTarget):
    """Fails where a text of 13 is among the rows."""

    def forward_batch(self, parts: Any, exit_layers: Any = None) -> list[Any]:
        self.forwards.append(len(parts))
        if any(13 in part.piece.tokens.tolist() for part in parts):
            raise RuntimeError("no")
        return [self._forward(part) for part in parts]


@pytest.mark.usefixtures("unhurried_intake")
def test_whose_fault_a_failed_forward_is_shows_in_a_few_forwards(
    tokens: Path, shown: dict[str, bytes]
) -> None:
    target = Poisoned(HashModel())
    with server_with(tokens, target=target) as server, welcomed(server, shown["bob"]) as bob:
        openings = [
            opening(n, secrets.token_bytes(16), [13 if n == 7 else 1], fill=False) for n in range(1, 17)
        ]
        send_for_one_forward(server, bob, openings)
        kinds = [bob.until(raw_peer.VERDICT, raw_peer.ERROR) for _ in range(16)]
        assert sorted(frame.kind for frame in kinds if frame) == [raw_peer.VERDICT] * 15 + [raw_peer.ERROR]
        assert len(target.forwards) <= 2 * 4 + 2


@pytest.mark.usefixtures("unhurried_intake")
def test_a_session_whose_rows_cannot_be_made_ends_alone(
    tokens: Path, shown: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ForwardRunner._constraints

    def fail_for_13(session: ServerSession, rows: PlannedRows) -> RowConstraints | None:
        if 13 in session.verifier.text:
            raise OverflowError("no")
        return made(session, rows)

    monkeypatch.setattr(ForwardRunner, "_constraints", staticmethod(fail_for_13))
    with server_with(tokens) as server, welcomed(server, shown["bob"]) as bob:
        openings = [
            opening(n, secrets.token_bytes(16), [13 if n == 2 else 1], fill=False) for n in range(1, 5)
        ]
        send_for_one_forward(server, bob, openings)
        kinds = [bob.until(raw_peer.VERDICT, raw_peer.ERROR) for _ in range(4)]
        assert sorted(frame.kind for frame in kinds if frame) == [raw_peer.VERDICT] * 3 + [raw_peer.ERROR]


class Astray(StubTarget):
    """Its walk leaves the tree of a text of 13."""

    def _forward(self, part: Any) -> Any:
        decisions = super()._forward(part)
        astray = 13 in part.piece.tokens.tolist()
        return replace(decisions, path=np.array([1], np.int32)) if astray else decisions


@pytest.mark.usefixtures("unhurried_intake")
def test_a_session_whose_walk_does_not_follow_its_tree_ends_alone(
    tokens: Path, shown: dict[str, bytes]
) -> None:
    with server_with(tokens, target=Astray(HashModel())) as server, welcomed(server, shown["bob"]) as bob:
        openings = [
            opening(n, secrets.token_bytes(16), [13 if n == 2 else 1], fill=False) for n in range(1, 5)
        ]
        send_for_one_forward(server, bob, openings)
        kinds = [bob.until(raw_peer.VERDICT, raw_peer.ERROR) for _ in range(4)]
        assert sorted(frame.kind for frame in kinds if frame) == [raw_peer.VERDICT] * 3 + [raw_peer.ERROR]


def test_a_full_disk_costs_records_and_no_session(tokens: Path, shown: dict[str, bytes]) -> None:
    with server_with(tokens, Path("/dev/full")) as server:
        for _ in range(2):
            with welcomed(server, shown["bob"]) as bob:
                bob.send(opening(1, secrets.token_bytes(16), PROMPT))
                assert bob.until(raw_peer.VERDICT) is not None


@pytest.mark.parametrize(("who", "most"), [("alice", DEVICE_A_MINUTE), ("", STRANGERS_A_MINUTE)])
def test_nobody_fills_the_audit_log(
    who: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(monotonic=lambda: 0.0, strftime=time.strftime, gmtime=time.gmtime)
    monkeypatch.setattr("edgespec.server.audit.time", clock)
    audit = AuditLog(tmp_path / "audit")
    for _ in range(most + 7):
        audit.record("refused", who)
    clock.monotonic = lambda: 60.0
    audit.record("opened", "bob")
    *_, missing, last = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert (missing["event"], missing["records"], last["device"]) == ("left out", 7, "bob")
    audit.close()
