"""A device's guides have a share of the server's time: beyond it they wait for others, and no more are opened."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator

import pytest
import raw_peer
from raw_peer import RawPeer
from stubs import serving

from edgespec.core.access import credential
from edgespec.core.guide import Guide
from edgespec.core.guide_matcher import Guides
from edgespec.core.tokenizer import Tokenizer
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft
from edgespec.server.guide_time import FREE_S, SHARE, GuideTime
from edgespec.server.server import Server
from edgespec.server.settings import ServerSecurity
from edgespec.server.tokens import add_token

PROMPT = [10, 20, 30]
SAMPLING = json.dumps({"guide": {"regex": "[a-z ]*"}}).encode()
LONG_S = 3600.0


def test_an_account_pays_its_debt_by_its_share_and_saves_no_more_than_it_began_with() -> None:
    account = GuideTime()
    account.spend(FREE_S, 0.0)
    assert account.owed_s(0.0) == 0.0
    account.spend(0.5, 0.0)
    assert account.owed_s(0.0) == pytest.approx(0.5 / SHARE)
    assert account.owed_s(0.4 / SHARE) == pytest.approx(0.1 / SHARE)
    assert account.owed_s(LONG_S) == 0.0
    account.spend(FREE_S + 0.1, LONG_S)
    assert account.owed_s(LONG_S) == pytest.approx(0.1 / SHARE)


@pytest.mark.parametrize(
    "guide", [Guide.regex("a+"), Guide.regex("a(")], ids=["compiles", "does not compile"]
)
def test_whoever_pays_is_told_of_all_the_time_a_guide_takes(guide: Guide) -> None:
    pytest.importorskip("llguidance")
    path, ticks, spent = load_draft(bundled_engine()).tokenizer_path, iter(range(1000)), list[float]()
    tokenizer = Tokenizer.load(path)
    guides = Guides(path, tokenizer.vocabulary_size, tokenizer.end_tokens, lambda: 1e-4 * next(ticks))
    try:
        guides.matcher(guide, spent.append)
    except Exception:
        assert len(spent) == 1, "the time to find out counts too"
    else:
        assert len(spent) > 1, "and so does the look at its first tokens"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, dict[str, bytes]]]:
    """A server, and what each device says."""
    pytest.importorskip("llguidance")
    from edgespec.model.target import Target

    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    vocabulary = Tokenizer.load(load_draft(bundled_engine()).tokenizer_path).vocabulary_hash
    hellos = {
        device: raw_peer.hello(vocabulary, credential(add_token(tokens, device)))
        for device in ("spender", "other")
    }
    with serving(Target.load(None, exits=None), security=ServerSecurity(tokens=tokens)) as server:
        yield server, hellos


def opened(server: Server, hello: bytes, sampling: bytes, new_tokens: int = 4) -> RawPeer:
    peer = RawPeer(server.port)
    peer.send(hello)
    assert peer.until(raw_peer.WELCOME) is not None
    session = secrets.token_bytes(16)
    peer.send(raw_peer.opening(1, session, PROMPT, max_new_tokens=new_tokens, sampling=sampling))
    return peer


def owe(server: Server, device: str, seconds: float) -> None:
    server.call(
        lambda: server._gate.devices.guide_times[f"device {device}".encode()].spend(seconds, time.monotonic())
    ).result()


@pytest.mark.needs_torch
def test_a_device_in_debt_opens_no_session_with_a_guide_and_others_do(
    served: tuple[Server, dict[str, bytes]],
) -> None:
    server, hellos = served
    owe(server, "spender", LONG_S)
    with opened(server, hellos["spender"], SAMPLING) as refused:
        error = refused.until(raw_peer.ERROR)
        assert error is not None and (error.code, error.retryable) == (raw_peer.LIMIT, True)
        assert b"guides" in error.payload
    for device, sampling in (("spender", b""), ("other", SAMPLING)):
        with opened(server, hellos[device], sampling) as peer:
            assert peer.until(raw_peer.VERDICT) is not None
    owe(server, "spender", -LONG_S)


@pytest.mark.needs_torch
def test_guides_of_a_device_in_debt_wait_for_others_only(served: tuple[Server, dict[str, bytes]]) -> None:
    server, hellos = served
    with opened(server, hellos["spender"], SAMPLING, 400) as indebted:
        assert indebted.until(raw_peer.VERDICT) is not None
        owe(server, "spender", LONG_S)
        assert indebted.until(raw_peer.VERDICT) is not None, "nobody else wants the server"
        with opened(server, hellos["other"], b"", 64) as other:
            assert other.until(raw_peer.VERDICT) is not None
            guided = (one for one in server.sessions.table.values() if one.params.guide is not None)
            [waiting] = [one for one in guided if one.identity == b"device spender"]
            before = waiting.verifier.forwards
            verdicts = [other.until(raw_peer.VERDICT) for _ in range(20)]
            assert None not in verdicts
            assert waiting.verifier.forwards <= before + 1
    owe(server, "spender", -LONG_S)
