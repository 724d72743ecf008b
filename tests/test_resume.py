"""Links that break: the session resumes, moves or is opened anew, and the text is the one it would have been."""

import contextlib
import threading
from collections.abc import Iterator, Sequence

import pytest
from broken_links import (
    HELLO_BYTES,
    IN_MID_TEXT,
    MODES,
    PROMPT,
    RIGHT,
    SCRIPTED,
    TOKENS,
    another_target,
    events,
    generate,
    mortal,
    over_a_proxy,
    prompted,
    session,
)
from faults import Fault, FaultProxy
from scripted_models import HashModel
from stubs import StubTarget, StubTokenizer, serving

from edgespec.core.errors import EdgespecError
from edgespec.edge.link_options import LinkOptions
from edgespec.server.server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(StubTarget(SCRIPTED)) as running:
        yield running


@pytest.fixture
def second() -> Iterator[Server]:
    with serving(StubTarget(SCRIPTED)) as running:
        yield running


# Resuming


@pytest.mark.parametrize("mode", MODES)
def test_a_cut_link_is_resumed_with_the_same_text(mode: str) -> None:
    with over_a_proxy(IN_MID_TEXT, mode=mode, link=LinkOptions(hedge=False)) as (one, proxy):
        steps = generate(one)
    assert one.tokens == RIGHT and [token for step in steps for token in step.tokens] == RIGHT
    assert "reconnected to" in events(steps) and "re-opened" not in events(steps)
    assert proxy.connections == 2 and steps[-1].statistics.link_losses == 1


@pytest.mark.parametrize("mode", MODES)
def test_of_two_connections_one_may_break_unnoticed(mode: str) -> None:
    with over_a_proxy(IN_MID_TEXT, mode=mode) as (one, _):
        generate(one)
    assert one.tokens == RIGHT


def test_every_byte_of_a_generation_is_a_good_place_to_break(server: Server) -> None:
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


def test_a_silent_link_is_given_up_and_resumed() -> None:
    link = LinkOptions(hedge=False, dead_after_s=0.3)
    with over_a_proxy(Fault(700, "freeze", "down"), link=link) as (one, _):
        steps = generate(one)
    assert one.tokens == RIGHT and "nothing was heard" in events(steps)


def test_what_was_decided_meanwhile_is_not_decided_again() -> None:
    target = StubTarget(SCRIPTED)
    with over_a_proxy(IN_MID_TEXT, target=target, mode="cloud") as (one, _):
        steps = generate(one)
    assert one.tokens == RIGHT
    assert len(target.forwards) == TOKENS, "a filled text takes a forward a token, whatever the link does"
    assert steps[-1].statistics.target_forwards == TOKENS


def test_an_outage_is_waited_out() -> None:
    with over_a_proxy() as (one, proxy):
        back = threading.Timer(0.3, proxy.recover)

        def go_away() -> None:
            proxy.outage("refuse")
            back.start()

        steps = generate(one, 10, go_away)
        back.join()
    assert one.tokens == RIGHT and "reconnected to" in events(steps)


def test_the_next_turn_goes_over_the_new_link() -> None:
    with over_a_proxy() as (one, proxy):
        generate(one)
        proxy.cut()
        one.append([7, 8], max_new_tokens=10)
        generate(one)
    assert one.tokens == SCRIPTED.continuation([*PROMPT, *RIGHT, 7, 8], 10)


def test_a_step_says_that_the_link_is_lost() -> None:
    with over_a_proxy() as (one, proxy):
        one.step()
        proxy.outage("refuse")
        seen: list[str] = []
        while not any("lost the link to 127.0.0.1" in event for event in seen):
            seen += one.step(timeout_s=5).events
        proxy.recover()
        generate(one)
    assert one.tokens == RIGHT


# Reopening


@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_was_started_anew_is_told_everything(mode: str) -> None:
    with mortal(5) as server:
        port = server.port
        one = session(port, mode=mode)
        one.prompt(PROMPT)
        one.step()
    with serving(StubTarget(SCRIPTED), port=port), one:
        steps = generate(one)
    assert one.tokens == RIGHT and f"re-opened at 127.0.0.1:{port}" in events(steps)
    assert steps[-1].statistics.target_forwards > 0


def test_a_session_that_expired_is_opened_anew() -> None:
    with over_a_proxy(resume_for_s=0.0) as (one, proxy):
        steps = generate(one, 10, proxy.cut)
    assert one.tokens == RIGHT
    assert not one.statistics.link_losses or "re-opened" in events(steps)


def test_the_next_server_goes_on_where_the_first_ended(second: Server) -> None:
    with mortal(5) as first, prompted(first, second) as one:
        steps = generate(one)
    assert one.tokens == RIGHT and f"re-opened at 127.0.0.1:{second.port}" in events(steps)


def test_the_first_server_may_be_absent_from_the_beginning(server: Server) -> None:
    with session(9, server.port) as one:
        one.prompt(PROMPT)
        generate(one)
    assert one.tokens == RIGHT


def test_a_later_turn_is_opened_anew_with_the_whole_text(server: Server, second: Server) -> None:
    with prompted(server, second) as one:
        generate(one)
        server.stop()
        one.append([7, 8], max_new_tokens=10)
        generate(one)
        assert one.tokens == SCRIPTED.continuation([*PROMPT, *RIGHT, 7, 8], 10)
        text = [*PROMPT, *RIGHT, 7, 8, *one.tokens, 9]
        one.append([9], max_new_tokens=5)
        generate(one)
    assert one.tokens == SCRIPTED.continuation(text, 5)


def test_a_stop_string_is_found_after_a_move_as_well(second: Server) -> None:
    whole = StubTokenizer().decode(RIGHT)
    stop = whole[40:43]
    with mortal(5) as first, prompted(first, second, stop=(stop,)) as one:
        generate(one)
    assert one.text == whole[: whole.find(stop)] and one.finish_reason == "stop"


def test_a_server_with_another_target_is_passed_over(server: Server) -> None:
    with mortal(5) as first, serving(another_target()) as other, prompted(first, other, server) as one:
        steps = generate(one)
    assert one.tokens == RIGHT and "serves other" in events(steps)


def test_another_target_of_the_same_name_is_passed_over_and_servers_are_named_rightly() -> None:
    first_target, other, again = (
        StubTarget(HashModel(seed=seed)) for seed in (SCRIPTED.seed, 9, SCRIPTED.seed)
    )
    first_target.target_id, other.target_id, again.target_id = "stub@aa", "stub@bb", "renamed@aa"
    with serving(first_target) as first, serving(other) as second, serving(again) as third:
        with prompted(first, second, third) as one:
            steps = generate(one, 10, first.stop)
        assert one.tokens == RIGHT
        assert f"lost the link to 127.0.0.1:{first.port}" in events(steps) and "stub@bb" in events(steps)
        assert f"lost the link to 127.0.0.1:{second.port}" not in events(steps)
        assert f"127.0.0.1:{third.port}" in events(steps)


def test_no_server_but_one_with_another_target_is_an_error() -> None:
    with mortal(5) as first:
        port = first.port
        one = session(port)
        one.prompt(PROMPT)
        one.step()
    with serving(another_target(), port=port), one, pytest.raises(EdgespecError, match="serves other"):
        generate(one)


# Draining


def test_a_session_moves_off_a_server_that_is_being_stopped(server: Server, second: Server) -> None:
    with prompted(server, second) as one:
        steps = generate(one, 10, lambda: server.drain(30))
    assert one.tokens == RIGHT
    assert "is going away" in events(steps) and f"re-opened at 127.0.0.1:{second.port}" in events(steps)


@pytest.mark.parametrize("others", [(), (9,)], ids=["no other server", "another that does not answer"])
def test_with_no_other_server_the_text_is_finished_there(server: Server, others: Sequence[int]) -> None:
    with session(server.port, *others) as one:
        one.prompt(PROMPT)
        steps = generate(one, 10, lambda: server.drain(30))
    assert one.tokens == RIGHT and "re-opened" not in events(steps)


def test_a_step_raises_when_no_server_is_back_in_time_and_the_next_goes_on() -> None:
    with over_a_proxy(link=LinkOptions(give_up_s=0.2)) as (one, proxy):
        one.step()
        proxy.outage("refuse")
        with pytest.raises(EdgespecError, match="went away"):
            generate(one)
        proxy.recover()
        while not one.finished:
            with contextlib.suppress(EdgespecError):  # the next attempt may be later than the time to give up
                one.step()
    assert one.tokens == RIGHT


@pytest.fixture(autouse=True)
def no_threads_are_left() -> Iterator[None]:
    """Whatever happens to the link, closing ends its threads."""
    before = threading.active_count()
    yield
    assert threading.active_count() == before
