"""Whoever waits runs the link's handlers: nothing is lost, doubled or reordered when threads hand that over."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import numpy as np
import pytest
from links import MAX_WAIT_S, answer, block, connect, events, linked, listening, verdict

from edgespec import _native
from edgespec._native import Listener

BLOCKS = 300


@pytest.fixture(params=[False, True], ids=["sleeping", "spinning"])
def spins(request: pytest.FixtureRequest) -> bool:
    """Whether those who wait sleep, at both ends."""
    return bool(request.param)


@contextmanager
def running(*works: Callable[[], None]) -> Iterator[None]:
    """Each in a thread of its own; all have ended afterwards."""
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join(MAX_WAIT_S)
        assert not any(thread.is_alive() for thread in threads)


def tokens_of(listener: Listener, count: int) -> list[int]:
    return [int(what.tokens[0]) for _, what in events(listener, count)]


def test_what_threads_send_while_another_waits_comes_in_each_ones_order(spins: bool) -> None:
    with linked(busy_spin=spins) as (connection, listener, number):
        waited: list[object] = []

        def send(first: int) -> Callable[[], None]:
            return lambda: [connection.send(block(first + i)) for i in range(BLOCKS)] and None

        with running(lambda: waited.append(connection.receive(MAX_WAIT_S)), send(0), send(1000), send(2000)):
            came = tokens_of(listener, 3 * BLOCKS)
            assert listener.send(number, verdict([7]))
        assert isinstance(waited[0], _native.Verdict)
    for first in (0, 1000, 2000):
        own = [token for token in came if first <= token < first + 1000]
        assert own == list(range(first, first + BLOCKS))


def test_threads_that_wait_side_by_side_share_what_comes(spins: bool) -> None:
    with linked(busy_spin=spins) as (connection, listener, number):
        taken: list[list[int]] = [[], []]

        def take(place: int) -> Callable[[], None]:
            def until_the_end() -> None:
                while True:
                    message = connection.receive(MAX_WAIT_S)
                    if message is None:  # the other one took it
                        continue
                    if message.tokens[0] == 9999:
                        return
                    taken[place].append(int(message.tokens[0]))

            return until_the_end

        with running(take(0), take(1)):
            for token in [*range(BLOCKS), 9999, 9999]:
                assert listener.send(number, verdict([token]))
        assert sorted(taken[0] + taken[1]) == list(range(BLOCKS))
        assert all(own == sorted(own) for own in taken)


def test_echoes_go_on_though_both_callers_wait_most_of_the_time(spins: bool) -> None:
    with linked(busy_spin=spins) as (connection, listener, number):

        def serve() -> None:
            for _ in range(BLOCKS):
                [(_, what)] = events(listener, 1)
                assert listener.send(number, verdict([int(what.tokens[0])]))

        with running(serve):
            for token in range(BLOCKS):
                connection.send(block(token))
                assert answer(connection) == [token]


def test_a_caller_that_does_not_come_back_keeps_its_link(spins: bool) -> None:
    """Neither end waits for longer than a peer may be silent, and heartbeats go on."""
    limits = {"dead_after_s": 0.4, "busy_spin": spins}
    with listening(**limits) as listener, closing(connect(listener, **limits)[0]) as link:
        assert listener.poll(1.5, 1) == []
        assert not link.dead


def test_closing_ends_the_wait_of_a_caller_that_runs_the_handlers(spins: bool) -> None:
    with listening(busy_spin=spins) as listener:
        ended = threading.Event()

        def wait() -> None:
            while listener.poll(MAX_WAIT_S, 1):
                pass
            ended.set()

        with running(wait):
            listener.close()
            assert ended.wait(MAX_WAIT_S)


def test_a_long_turn_beside_blocks_is_whole(spins: bool) -> None:
    with linked(busy_spin=spins) as (link, listener, _):
        turn = np.arange(20_000, dtype=np.int32)
        with running(lambda: [link.send(block(i)) for i in range(50)] and None):
            link.send(_native.encode_append(1, keep_length=4, max_new_tokens=1, turn=1, tokens=turn))
            came = [what for _, what in events(listener, 51)]
        [append] = [what for what in came if isinstance(what, _native.Append)]
        assert append.tokens.tolist() == turn.tolist()
