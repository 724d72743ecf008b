# ruff: noqa: SIM117  (proxy inside server, session inside proxy)
"""With no server the draft goes on alone: what it writes is provisional, and the target has the last word."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile

import pytest
from faults import FaultProxy
from scripted_models import HashModel
from stubs import StubTarget, StubTokenizer, serving, stub_session

from edgespec.core.errors import EdgespecError
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.session import Session
from edgespec.edge.step import Step

PROMPT = [1, 2, 3]
TOKENS = 40
ALONE = LinkOptions(offline_after_s=0.05, give_up_s=5.0)


@contextmanager
def cut_off(
    scripted: HashModel, mode: str = "stream", link: LinkOptions = ALONE
) -> Iterator[tuple[Session, FaultProxy]]:
    """A session that has committed something and whose server is out of reach; the server decodes on, unheard."""
    cut = threading.Event()
    target = StubTarget(
        scripted, before_forward=lambda: None if len(target.forwards) < 2 else assert_set(cut)
    )
    with serving(target) as server, FaultProxy(server.port) as proxy:
        with stub_session(proxy.port, scripted=scripted, mode=mode, max_new_tokens=TOKENS, link=link) as one:
            one.prompt(PROMPT)
            one.step()
            proxy.outage("refuse")
            cut.set()
            yield one, proxy


def assert_set(event: threading.Event) -> None:
    assert event.wait(20)


def write(one: Session, tokens: int) -> list[Step]:
    """Steps until at least `tokens` provisional letters stand, or the text is finished: the rest of it may be here."""
    steps = []
    while len(one.provisional) < tokens and not one.finished:
        steps.append(one.step())
    return steps


def text(scripted: HashModel) -> str:
    return StubTokenizer().decode(scripted.continuation(PROMPT, TOKENS))


@pytest.mark.parametrize("mode", ["cloud", "sync", "preempt", "stream"])
def test_a_draft_that_is_right_is_confirmed_and_nothing_changes(mode: str) -> None:
    scripted = HashModel(draft_right=1.0)
    with cut_off(scripted, mode) as (one, proxy):
        steps = write(one, 10)
        shown = one.text + one.provisional
        assert text(scripted).startswith(shown)
        assert "".join(step.provisional for step in steps) == one.provisional
        proxy.recover()
        steps += list(one)
        assert one.text == text(scripted)
        assert sum(step.revised for step in steps) == 0 and one.provisional == ""
        assert any("offline" in event for step in steps for event in step.events)


@pytest.mark.parametrize("mode", ["cloud", "sync", "preempt", "stream"])
def test_a_draft_that_is_wrong_is_corrected_and_the_caller_told(mode: str) -> None:
    scripted = HashModel(draft_right=0.8)
    with cut_off(scripted, mode) as (one, proxy):
        steps = write(one, 20)
        right = text(scripted)[len(one.tokens) :]
        proxy.recover()
        steps += list(one)
        written = "".join(step.provisional for step in steps)  # on and on, until a server answered
        held = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(written, right, strict=False)))
        assert one.text == text(scripted) and one.provisional == ""
        assert sum(step.revised for step in steps) == len(written) - held > 0


def test_what_the_caller_shows_is_always_committed_text_and_then_provisional() -> None:
    """A caller who adds `text` and redraws `provisional` ends with the target's text."""
    scripted = HashModel(draft_right=0.7)
    with cut_off(scripted) as (one, proxy):
        shown = one.text
        for step in write(one, 15):
            shown += step.text
        proxy.recover()
        for step in one:
            shown += step.text
            assert one.text == shown
            assert len(one.text) + len(one.provisional) <= TOKENS
        assert shown == text(scripted)


def test_the_draft_writes_no_more_than_the_text_may_have_and_then_the_caller_is_told() -> None:
    scripted = HashModel(draft_right=1.0)
    with cut_off(scripted, link=LinkOptions(offline_after_s=0.05, give_up_s=0.3)) as (one, _):
        with pytest.raises(EdgespecError, match="went away"):
            while True:
                one.step()
        assert one.text + one.provisional == text(scripted)
        assert not one.finished


def test_an_outage_in_an_outage() -> None:
    scripted = HashModel(draft_right=1.0)
    with cut_off(scripted, link=LinkOptions(offline_after_s=0.05, give_up_s=5.0)) as (one, proxy):
        write(one, 5)
        proxy.recover()
        while not one.step().tokens:
            pass
        proxy.outage("refuse")
        if not one.finished:
            write(one, 1)
        proxy.recover()
        list(one)
        assert one.text == text(scripted)


def test_cancelling_offline_takes_back_what_was_not_verified() -> None:
    with cut_off(HashModel(draft_right=1.0)) as (one, _):
        write(one, 5)
        before = one.text
        one.cancel()
        step = one.step()
        assert step.finish_reason == "cancelled" and step.revised >= 5
        assert one.text == before and one.provisional == ""


def test_without_a_draft_there_is_no_going_on_alone() -> None:
    with pytest.raises(EdgespecError, match="draft engine"):
        Session(mode="cloud", tokenizer=StubTokenizer(), link=ALONE)  # type: ignore[arg-type]
