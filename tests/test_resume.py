# ruff: noqa: SIM117  (proxy inside server, session inside proxy)
"""Links that break: the session resumes, moves or is opened anew, and the text is the one it would have been."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from faults import Fault, FaultProxy
from scripted_models import HashModel
from stubs import StubTarget, StubTokenizer, serving, stub_session

from edgespec.core.errors import EdgespecError
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.session import Session
from edgespec.edge.step import Step
from edgespec.server.server import Server

PROMPT = [1, 2, 3]
SCRIPTED = HashModel(draft_right=0.7, exit_right=0.8)
TOKENS = 60
RIGHT = SCRIPTED.continuation(PROMPT, TOKENS)
MODES = ["cloud", "sync", "preempt", "stream"]
HELLO_BYTES = 150
"""No less than what a connection says before it is welcomed."""
IN_MID_TEXT = Fault(700, "cut", "down")
QUICK = LinkOptions(dead_after_s=0.3, give_up_s=10.0)


def session(*ports: int, mode: str = "sync", link: LinkOptions = QUICK, **params: Any) -> Session:
    return stub_session(*ports, scripted=SCRIPTED, mode=mode, max_new_tokens=TOKENS, params=params, link=link)


def generate(one: Session, between: Callable[[int], None] = lambda step: None) -> list[Step]:
    """The whole text; `between` is called after each step that brought tokens, with their number so far."""
    steps = []
    for step in one:
        steps.append(step)
        if step.tokens:
            between(len(one.tokens))
    return steps


def events(steps: list[Step]) -> str:
    return "; ".join(event for step in steps for event in step.events)


@contextmanager
def mortal(forwards: int, **options: Any) -> Iterator[Server]:
    """A server that stops by itself after `forwards` forwards."""
    target = StubTarget(
        SCRIPTED, before_forward=lambda: server.stop() if len(target.forwards) == forwards - 1 else None
    )
    with serving(target, **options) as server:
        yield server


class Once:
    """Calls something the first time that enough tokens are there."""

    def __init__(self, at: int, call: Callable[[], None]) -> None:
        self._at = at
        self._call: Callable[[], None] | None = call

    def __call__(self, tokens: int) -> None:
        if self._call is not None and tokens >= self._at:
            call, self._call = self._call, None
            call()


class TestResuming:
    @pytest.mark.parametrize("mode", MODES)
    def test_a_cut_link_is_resumed_with_the_same_text(self, mode: str) -> None:
        link = LinkOptions(hedge=False)
        with serving(StubTarget(SCRIPTED)) as server, FaultProxy(server.port, [IN_MID_TEXT]) as proxy:
            with session(proxy.port, mode=mode, link=link) as one:
                one.prompt(PROMPT)
                steps = generate(one)
        assert one.tokens == RIGHT and [token for step in steps for token in step.tokens] == RIGHT
        assert "reconnected to" in events(steps) and "re-opened" not in events(steps)
        assert proxy.connections == 2 and steps[-1].statistics.link_losses == 1

    @pytest.mark.parametrize("mode", MODES)
    def test_of_two_connections_one_may_break_unnoticed(self, mode: str) -> None:
        with serving(StubTarget(SCRIPTED)) as server, FaultProxy(server.port, [IN_MID_TEXT]) as proxy:
            with session(proxy.port, mode=mode) as one:
                one.prompt(PROMPT)
                generate(one)
        assert one.tokens == RIGHT

    def test_every_byte_of_a_generation_is_a_good_place_to_break(self) -> None:
        target = StubTarget(SCRIPTED)
        with serving(target) as server:
            for after_bytes in range(0, 1200, 57):
                faults = [Fault(HELLO_BYTES + after_bytes, "cut", "up"), Fault(after_bytes, "cut", "down")]
                link = LinkOptions(hedge=False)
                with (
                    FaultProxy(server.port, faults) as proxy,
                    session(proxy.port, mode="preempt", link=link) as one,
                ):
                    one.prompt(PROMPT)
                    generate(one)
                    assert one.tokens == RIGHT, f"broken after {after_bytes} bytes"

    def test_a_silent_link_is_given_up_and_resumed(self) -> None:
        link = LinkOptions(hedge=False, dead_after_s=0.3)
        with (
            serving(StubTarget(SCRIPTED)) as server,
            FaultProxy(server.port, [Fault(700, "freeze", "down")]) as proxy,
        ):
            with session(proxy.port, link=link) as one:
                one.prompt(PROMPT)
                steps = generate(one)
        assert one.tokens == RIGHT and "nothing was heard" in events(steps)

    def test_what_was_decided_meanwhile_is_not_decided_again(self) -> None:
        target = StubTarget(SCRIPTED)
        with serving(target) as server, FaultProxy(server.port, [IN_MID_TEXT]) as proxy:
            with session(proxy.port, mode="cloud") as one:
                one.prompt(PROMPT)
                steps = generate(one)
        assert one.tokens == RIGHT
        assert len(target.forwards) == TOKENS, "a filled text takes a forward a token, whatever the link does"
        assert steps[-1].statistics.target_forwards == TOKENS

    def test_an_outage_is_waited_out(self) -> None:
        with (
            serving(StubTarget(SCRIPTED)) as server,
            FaultProxy(server.port) as proxy,
            session(proxy.port) as one,
        ):
            one.prompt(PROMPT)
            back = threading.Timer(0.3, proxy.recover)

            def go_away() -> None:
                proxy.outage("refuse")
                back.start()

            steps = generate(one, Once(10, go_away))
            back.join()
        assert one.tokens == RIGHT and "reconnected to" in events(steps)

    def test_the_next_turn_goes_over_the_new_link(self) -> None:
        with (
            serving(StubTarget(SCRIPTED)) as server,
            FaultProxy(server.port) as proxy,
            session(proxy.port) as one,
        ):
            one.prompt(PROMPT)
            generate(one)
            proxy.cut()
            one.append([7, 8], max_new_tokens=10)
            generate(one)
        assert one.tokens == SCRIPTED.continuation([*PROMPT, *RIGHT, 7, 8], 10)

    def test_a_step_says_that_the_link_is_lost(self) -> None:
        with (
            serving(StubTarget(SCRIPTED)) as server,
            FaultProxy(server.port) as proxy,
            session(proxy.port) as one,
        ):
            one.prompt(PROMPT)
            one.step()
            proxy.outage("refuse")
            seen: list[str] = []
            while not any("lost the link to 127.0.0.1" in event for event in seen):
                seen += one.step(timeout_s=5).events
            proxy.recover()
            generate(one)
        assert one.tokens == RIGHT


class TestReopening:
    @pytest.mark.parametrize("mode", MODES)
    def test_a_server_that_was_started_anew_is_told_everything(self, mode: str) -> None:
        with mortal(5) as server:
            port = server.port
            one = session(port, mode=mode)
            one.prompt(PROMPT)
            one.step()
        with serving(StubTarget(SCRIPTED), port=port), one:
            steps = generate(one)
        assert one.tokens == RIGHT and f"re-opened at 127.0.0.1:{port}" in events(steps)
        assert steps[-1].statistics.target_forwards > 0

    def test_a_session_that_expired_is_opened_anew(self) -> None:
        target = StubTarget(SCRIPTED)
        with (
            serving(target, resume_for_s=0.0) as server,
            FaultProxy(server.port) as proxy,
            session(proxy.port) as one,
        ):
            one.prompt(PROMPT)
            steps = generate(one, Once(10, proxy.cut))
        assert one.tokens == RIGHT
        assert not one.statistics.link_losses or "re-opened" in events(steps)

    def test_the_next_server_goes_on_where_the_first_ended(self) -> None:
        with mortal(5) as first, serving(StubTarget(SCRIPTED)) as second:
            with session(first.port, second.port) as one:
                one.prompt(PROMPT)
                steps = generate(one)
            assert one.tokens == RIGHT and f"re-opened at 127.0.0.1:{second.port}" in events(steps)

    def test_the_first_server_may_be_absent_from_the_beginning(self) -> None:
        with serving(StubTarget(SCRIPTED)) as server, session(9, server.port) as one:
            one.prompt(PROMPT)
            generate(one)
        assert one.tokens == RIGHT

    def test_a_later_turn_is_opened_anew_with_the_whole_text(self) -> None:
        with serving(StubTarget(SCRIPTED)) as first, serving(StubTarget(SCRIPTED)) as second:
            with session(first.port, second.port) as one:
                one.prompt(PROMPT)
                generate(one)
                first.stop()
                one.append([7, 8], max_new_tokens=10)
                generate(one)
                assert one.tokens == SCRIPTED.continuation([*PROMPT, *RIGHT, 7, 8], 10)
                text = [*PROMPT, *RIGHT, 7, 8, *one.tokens, 9]
                one.append([9], max_new_tokens=5)
                generate(one)
        assert one.tokens == SCRIPTED.continuation(text, 5)

    def test_a_stop_string_is_found_after_a_move_as_well(self) -> None:
        whole = StubTokenizer().decode(RIGHT)
        stop = whole[40:43]
        with mortal(5) as first, serving(StubTarget(SCRIPTED)) as second:
            with session(first.port, second.port, stop=(stop,)) as one:
                one.prompt(PROMPT)
                generate(one)
        assert one.text == whole[: whole.find(stop)] and one.finish_reason == "stop"

    def test_a_server_with_another_target_is_passed_over(self) -> None:
        other = StubTarget(HashModel(seed=9))
        other.target_id = "other"
        with mortal(5) as first, serving(other) as second, serving(StubTarget(SCRIPTED)) as third:
            with session(first.port, second.port, third.port) as one:
                one.prompt(PROMPT)
                steps = generate(one)
        assert one.tokens == RIGHT and "serves other" in events(steps)

    def test_no_server_but_one_with_another_target_is_an_error(self) -> None:
        other = StubTarget(HashModel(seed=9))
        other.target_id = "other"
        with mortal(5) as first:
            port = first.port
            one = session(port)
            one.prompt(PROMPT)
            one.step()
        with serving(other, port=port), one, pytest.raises(EdgespecError, match="serves other"):
            generate(one)


class TestDraining:
    def test_a_session_moves_off_a_server_that_is_being_stopped(self) -> None:
        with serving(StubTarget(SCRIPTED)) as first, serving(StubTarget(SCRIPTED)) as second:
            with session(first.port, second.port) as one:
                one.prompt(PROMPT)
                steps = generate(one, Once(10, lambda: first.drain(30)))
        assert one.tokens == RIGHT
        assert "is going away" in events(steps) and f"re-opened at 127.0.0.1:{second.port}" in events(steps)

    def test_with_no_other_server_the_text_is_finished_there(self) -> None:
        with serving(StubTarget(SCRIPTED)) as server, session(server.port) as one:
            one.prompt(PROMPT)
            generate(one, Once(10, lambda: server.drain(30)))
        assert one.tokens == RIGHT

    def test_a_server_that_stops_before_the_next_answers_is_gone_back_to(self) -> None:
        with serving(StubTarget(SCRIPTED)) as server, session(server.port, 9) as one:
            one.prompt(PROMPT)
            steps = generate(one, Once(10, lambda: server.drain(30)))
        assert one.tokens == RIGHT and "re-opened" not in events(steps)


class TestGivingUp:
    def test_a_step_raises_when_no_server_is_back_in_time_and_the_next_goes_on(self) -> None:
        link = LinkOptions(give_up_s=0.2)
        with (
            serving(StubTarget(SCRIPTED)) as server,
            FaultProxy(server.port) as proxy,
            session(proxy.port, link=link) as one,
        ):
            one.prompt(PROMPT)
            one.step()
            proxy.outage("refuse")
            with pytest.raises(EdgespecError, match="went away"):
                generate(one)
            proxy.recover()
            while not one.finished:
                with contextlib.suppress(
                    EdgespecError
                ):  # the next attempt may be later than the time to give up
                    one.step()
        assert one.tokens == RIGHT


@pytest.fixture(autouse=True)
def no_threads_are_left() -> Iterator[None]:
    """Whatever happens to the link, closing ends its threads."""
    before = threading.active_count()
    yield
    assert threading.active_count() == before
