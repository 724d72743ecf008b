# ruff: noqa: SIM117  (proxy inside server, session inside proxy)
"""Hedging: what is late on one connection goes out again on the other, seldom, and is executed once."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from faults import FaultProxy
from scripted_models import HashModel
from stubs import StubTarget, play, serving, stub_session

from edgespec import _native
from edgespec._native import ResilientConnection
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.session import Session
from edgespec.server.server import Server
from edgespec.sim.emulated_link import Link, LinkShape

PROMPT = [1, 2, 3]
SCRIPTED = HashModel(draft_right=0.7, exit_right=0.8)
TOKENS = 60
RIGHT = SCRIPTED.continuation(PROMPT, TOKENS)
PATIENT = LinkOptions(dead_after_s=30.0)


def session(port: int, mode: str = "sync", link: LinkOptions = PATIENT, tokens: int = TOKENS) -> Session:
    return stub_session(port, scripted=SCRIPTED, mode=mode, max_new_tokens=tokens, link=link)


def link_of(one: Session) -> ResilientConnection:
    return one._connection.link


def until(condition: Callable[[], bool]) -> None:
    """Wait for the I/O threads to get there."""
    pause = threading.Event()
    for _ in range(10_000):
        if condition():
            return
        pause.wait(0.001)
    raise AssertionError("it did not come to that")


@dataclass
class TwoPaths:
    """A session that two connections carry and whose server waits before its first forward."""

    one: Session
    server: Server
    proxy: FaultProxy
    free: Callable[[], None]


@contextmanager
def two_paths(mode: str = "sync", **proxy_options: Any) -> Iterator[TwoPaths]:
    free = threading.Event()
    target = StubTarget(
        SCRIPTED, before_forward=lambda: None if free.wait(20) else pytest.fail("never freed")
    )
    with serving(target, dead_after_s=30.0) as server, FaultProxy(server.port, **proxy_options) as proxy:
        with session(proxy.port, mode) as one:
            until(lambda: link_of(one).welcomed == 2)
            one.prompt(PROMPT)
            until(lambda: link_of(one).paths == 2)
            try:
                yield TwoPaths(one, server, proxy, free.set)
            finally:
                free.set()


@pytest.mark.parametrize("mode", ["cloud", "sync", "preempt", "stream"])
@pytest.mark.parametrize("which", [0, 1])
def test_a_stalled_connection_does_not_hold_the_text(mode: str, which: int) -> None:
    with two_paths(mode) as link:
        link.proxy.stall(which)
        link.free()
        steps = list(link.one)
        assert link.one.tokens == RIGHT
        assert steps[-1].statistics.link_losses == 0 and not any(step.events for step in steps)


def test_a_block_that_is_late_goes_up_again_on_the_other() -> None:
    with two_paths() as link:
        link.free()
        link.one.step()
        link.proxy.stall(0, ["up"])
        link.proxy.stall(1, ["up"])
        before = link_of(link.one).frames_hedged
        link.one.step(timeout_s=0.2)
        until(lambda: link_of(link.one).frames_hedged > before)
        link.proxy.flow()
        list(link.one)
        assert link.one.tokens == RIGHT


def test_a_verdict_that_is_late_comes_down_again_on_the_other() -> None:
    with two_paths("cloud") as link:
        link.proxy.stall(None, ["down"])
        link.free()
        until(lambda: link.server.listener.frames_hedged > 0)
        link.proxy.flow()
        list(link.one)
        assert link.one.tokens == RIGHT


def test_copies_that_come_later_are_dropped() -> None:
    with two_paths() as link:
        link.proxy.stall(0)
        link.one.step(timeout_s=0.01)  # a block goes up on the connection that is stalled
        until(lambda: link_of(link.one).frames_hedged > 0)
        link.free()
        list(link.one)
        assert link.server.listener.repeats_received == 0
        link.proxy.flow()
        until(lambda: link.server.listener.repeats_received > 0)
        link.one.append([7, 8], max_new_tokens=10)
        list(link.one)
        assert link.one.tokens == SCRIPTED.continuation([*PROMPT, *RIGHT, 7, 8], 10)


def test_a_link_that_turns_slow_is_not_flooded_with_copies() -> None:
    """A tenth of what is sent, and what was saved up before."""
    with two_paths(delay_s=0.0) as link:
        link.proxy.delay_s = 0.03
        link.free()
        list(link.one)
        resilient_connection, listener = link_of(link.one), link.server.listener
        assert resilient_connection.frames_hedged <= 8 + 0.1 * resilient_connection.frames_sent + 1
        assert listener.frames_hedged <= 8 + 0.1 * listener.frames_sent + 1
        assert link.one.tokens == RIGHT


def test_a_connection_that_breaks_is_made_again_beside_the_other() -> None:
    with two_paths() as link:
        link.free()
        list(link.one)
        for made in (3, 4):
            link.proxy.cut(0)
            until(lambda made=made: link.proxy.connections == made and link_of(link.one).paths == 2)  # type: ignore[misc]
        link.one.append([7, 8], max_new_tokens=10)
        steps = list(link.one)
        assert link.one.tokens == SCRIPTED.continuation([*PROMPT, *RIGHT, 7, 8], 10)
        assert steps[-1].statistics.link_losses == 0


def test_an_opening_whose_connection_breaks_goes_up_on_the_other() -> None:
    with serving(StubTarget(SCRIPTED)) as server, FaultProxy(server.port) as proxy:
        with session(proxy.port) as one:
            until(lambda: link_of(one).welcomed == 2)
            proxy.stall(0, ["up"])
            one.prompt(PROMPT)
            until(lambda: link_of(one).paths == 1)
            proxy.cut(0)
            list(one)
    assert one.tokens == RIGHT


def test_a_second_connection_that_reaches_another_target_carries_nothing() -> None:
    """Behind one address stand servers of two targets."""
    other = StubTarget(HashModel(seed=9))
    other.target_id = "other"
    with serving(StubTarget(SCRIPTED)) as server, serving(other) as wrong, FaultProxy(server.port) as proxy:
        with session(proxy.port) as one:
            until(lambda: link_of(one).welcomed == 2)
            proxy.choose = lambda: wrong.port
            proxy.cut(0)
            until(lambda: proxy.connections == 5)
            steps = play(one, PROMPT)
            assert not wrong.sessions.table
    assert one.tokens == RIGHT
    assert any("reach several servers" in event for step in steps for event in step.events)


def test_without_hedging_there_is_one_connection() -> None:
    with serving(StubTarget(SCRIPTED)) as server, FaultProxy(server.port) as proxy:
        with session(proxy.port, link=LinkOptions(hedge=False)) as one:
            play(one, PROMPT)
            assert proxy.connections == 1 and link_of(one).paths == 1 and link_of(one).frames_hedged == 0
    assert one.tokens == RIGHT


@contextmanager
def slow_link(port: int) -> Iterator[int]:
    """A link of 1 Mbit/s to that port, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    link = Link(("127.0.0.1", 0), ("127.0.0.1", port), LinkShape(rtt_ms=4, mbps=1.0))
    try:
        asyncio.run_coroutine_threadsafe(link.start(), loop).result(10)
        yield link.port
    finally:
        asyncio.run_coroutine_threadsafe(link.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def test_a_large_frame_that_is_under_way_is_not_sent_twice() -> None:
    with serving(StubTarget(SCRIPTED), dead_after_s=30.0) as server, slow_link(server.port) as port:
        with session(port, "cloud") as one:
            play(one, PROMPT)
            until(lambda: link_of(one).paths == 2)
            before = link_of(one).frames_hedged
            large = bytes(30_000)  # a quarter of a second
            tokens = np.array([1], dtype=np.int32)
            link_of(one).send(_native.encode_append(1, 3, 9, turn=1, tokens=tokens, pictures=large))
            answer = link_of(one).receive(20.0)
            while not isinstance(answer, _native.Error):
                answer = link_of(one).receive(20.0)
            assert "reads no pictures" in answer.message
            assert link_of(one).frames_hedged == before
