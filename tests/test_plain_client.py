"""The same behaviour from both edges: edgespec's own, and a plain one written from docs/wire-format.md alone."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from faults import FaultProxy, random_faults
from plain_client import PlainClient
from scripted_models import HashModel
from stubs import VOCABULARY_HASH, StubDraft, StubTarget, StubTokenizer, serving

from edgespec.core.params import SamplingParams
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.session import Session

SCRIPTED = HashModel(draft_right=0.7)
PROMPT = [1, 2, 3]
TOKENS = 40
RIGHT = SCRIPTED.continuation(PROMPT, TOKENS)
SILENT_S = 0.4
HELLO_BYTES = 200
"""No less than what is said until a connection is welcomed: a session needs one server to begin with."""

Generate = Callable[[int, bool], list[int]]


def by_plain_client(port: int, drafts: bool) -> list[int]:
    draft = (lambda text: SCRIPTED.draft(text)[0][0]) if drafts else None
    return PlainClient(port, VOCABULARY_HASH, PROMPT, TOKENS, draft, SILENT_S).run()


def by_session(port: int, drafts: bool) -> list[int]:
    with Session(
        ("127.0.0.1", port),
        draft=StubDraft(SCRIPTED),  # type: ignore[arg-type]
        params=SamplingParams(max_new_tokens=TOKENS, seed=7),
        mode="sync" if drafts else "cloud",
        tokenizer=StubTokenizer(),  # type: ignore[arg-type]
        link=LinkOptions(dead_after_s=SILENT_S, timeout_s=30.0, give_up_s=30.0),
    ) as session:
        session.prompt(PROMPT)
        list(session)
        return session.tokens


both_edges = pytest.mark.parametrize("generate", [by_session, by_plain_client])
both_ways = pytest.mark.parametrize("drafts", [False, True], ids=["the server alone", "with drafts"])


@both_edges
@both_ways
def test_the_text_is_the_targets(generate: Generate, drafts: bool) -> None:
    with serving(StubTarget(SCRIPTED)) as server:
        assert generate(server.port, drafts) == RIGHT


@both_edges
@both_ways
@pytest.mark.parametrize("seed", range(3))
def test_so_it_is_over_connections_that_break(generate: Generate, drafts: bool, seed: int) -> None:
    """Cut, closed or frozen at random bytes: every verdict is the continuation of the one before, none comes twice."""
    target = StubTarget(SCRIPTED)
    faults = [
        replace(fault, after_bytes=HELLO_BYTES + fault.after_bytes)
        for fault in random_faults(seed, 6, most_bytes=1500)
    ]
    with serving(target, dead_after_s=SILENT_S) as server, FaultProxy(server.port, faults) as proxy:
        assert generate(proxy.port, drafts) == RIGHT
        assert len(target.forwards) <= TOKENS + 1


@both_ways
def test_drafts_save_forwards_for_a_plain_client_too(drafts: bool) -> None:
    target = StubTarget(SCRIPTED)
    with serving(target) as server:
        assert by_plain_client(server.port, drafts) == RIGHT
    assert (len(target.forwards) < TOKENS) == drafts
