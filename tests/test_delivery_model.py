"""One session against a model, with windows so small that every bound is met: hypothesis draws what happens to it.

The listener is the real one; the edge is played frame by frame on plain sockets, so that frames can come late, twice,
by another connection or not at all. A PING behind what was said, and the wait for its PONG, make each step complete.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import raw_peer
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from links import WELCOME, verdict
from raw_peer import MAX_WAIT_S, Frame, RawPeer, frame, hello, opening
from stubs import VOCABULARY_HASH

from edgespec import _native

CHANNEL = 1
PATHS = 3
EARLY = 2  # frames that may wait for one before them
WINDOW = 3  # verdicts that may wait to be acknowledged
ROOT = _native.COMMITTED_BIT | 1
SLAB_BYTES = 16 * 1024


class Path:
    """A welcomed connection of the edge."""

    def __init__(self, number: int, peer: RawPeer) -> None:
        self.number = number
        self.peer = peer
        self.bound = False


class Delivery(RuleBasedStateMachine):
    """The model: which frames the edge made, which of them reached the server, which verdicts it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.listener = _native.Listener(
            "127.0.0.1", 0, opens=(1e6, 1e6), dead_after_s=60.0, slabs=64,
            session_bytes=WINDOW * len(verdict([7], 1)), early_frames=EARLY,
        )  # fmt: skip
        self.paths: list[Path] = []
        self.clock = itertools.count(1)
        self.ids = itertools.count(1)
        self.begin_anew()

    def begin_anew(self) -> None:
        """A session that the server does not know yet."""
        self.id = next(self.ids).to_bytes(16, "little")
        self.session: int | None = None
        self.made = 1  # numbered frames of the edge; the first is its OPEN
        self.came: set[int] = set()  # that the server has, or holds for later
        self.executed = 0  # blocks, in order, as the server's caller saw them
        self.said = 0  # verdicts
        self.held: set[int] = set()  # that the edge has
        self.acknowledged = 0
        self.away = False
        for path in self.paths:
            path.bound = False

    def teardown(self) -> None:
        """Over one good connection everything that was lost can still be said, and is heard once."""
        try:
            while self.paths:
                self.drop(self.paths[0])
            self.connect()
            (path,) = self.paths
            for sequence in range(1, self.made + 1):
                path.peer.send(self.numbered(sequence, self.prefix_held))
                path.bound = True
                self.came.add(sequence)
                self.learn(self.settle(path))
            self.everything_came_once_and_in_order()
            assert (self.executed, self.held) == (self.made - 1, set(range(1, self.said + 1)))
        finally:
            for path in self.paths:
                path.peer.socket.close()
            self.listener.close()

    # What the edge does

    @precondition(lambda self: len(self.paths) < PATHS)
    @rule()
    def connect(self) -> None:
        peer = RawPeer(self.listener.port)
        peer.send(hello(VOCABULARY_HASH))
        number = self.hear(_native.Hello)
        self.listener.welcome(number, WELCOME, b"edge")
        answer = peer.next()
        assert answer is not None and answer.kind == raw_peer.WELCOME
        self.paths.append(Path(number, peer))

    @precondition(lambda self: self.made < 12)
    @rule()
    def make(self) -> None:
        """A block that did not leave yet, or is lost."""
        self.made += 1

    @precondition(lambda self: self.paths)
    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        """Any frame it made, for the first time or again, by any connection: a repeat, a hedge, a gap; or the next."""
        path = data.draw(st.sampled_from(self.paths), label="path")
        following = min(self.prefix_came + 1, self.made)
        sequence = data.draw(st.just(following) | st.integers(1, self.made), label="sequence")
        acknowledge = data.draw(st.integers(self.acknowledged, self.prefix_held), label="acknowledge")
        path.peer.send(self.numbered(sequence, acknowledge))
        if not path.bound and sequence > 1:
            answers = self.settle(path)
            assert [(a.kind, a.code) for a in answers] == [(raw_peer.ERROR, raw_peer.UNKNOWN_SESSION)]
            return
        path.bound = True
        self.acknowledged = acknowledge
        early = {number for number in self.came if number > self.prefix_came}
        if sequence not in self.came and sequence != self.prefix_came + 1 and len(early) == EARLY:
            return self.is_refused(path)
        self.came.add(sequence)
        self.learn(self.settle(path))

    @precondition(lambda self: any(path.bound for path in self.paths))
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from([path for path in self.paths if path.bound]))
        self.acknowledged = data.draw(st.integers(self.acknowledged, self.prefix_held))
        path.peer.send(frame(raw_peer.ACK, channel=CHANNEL, acknowledge=self.acknowledged))
        self.learn(self.settle(path))

    def acknowledge_what_was_never_sent(self, path: Path) -> None:
        path.peer.send(frame(raw_peer.ACK, channel=CHANNEL, acknowledge=self.said + 1))
        self.is_refused(path)

    @precondition(lambda self: self.paths)
    @rule(data=st.data(), what=st.sampled_from(("lose", "cut off", "never sent", "expire")))
    def meet_misfortune(self, data: st.DataObject, what: str) -> None:
        """In one rule, for whatever ends things must be rare."""
        if what == "expire":
            if self.session is not None:
                self.expire()
            return
        path = data.draw(st.sampled_from(self.paths))
        if what == "never sent":
            if path.bound:
                self.acknowledge_what_was_never_sent(path)
            return
        self.lose(path, what == "cut off")

    def lose(self, path: Path, cut_off: bool) -> None:
        """A connection goes, in the middle of a frame or between two."""
        if cut_off:
            path.peer.send(self.numbered(self.made, self.acknowledged)[:-1])
        self.drop(path)

    @precondition(lambda self: self.came and any(not path.bound for path in self.paths))
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from([path for path in self.paths if not path.bound]))
        last = self.prefix_held
        payload = self.id + last.to_bytes(4, "little") + bytes(4)
        path.peer.send(frame(raw_peer.RESUME, payload, channel=CHANNEL))
        path.bound = True
        self.acknowledged = last
        answers = self.settle(path)
        assert answers[0].kind == raw_peer.RESUME
        assert answers[0].payload == self.id + self.prefix_came.to_bytes(4, "little") + bytes(4)
        self.learn(answers[1:])
        assert self.held == set(range(1, self.said + 1)), "what the edge lacks comes with the RESUME"

    # What the server does

    @precondition(lambda self: self.session is not None)
    @rule(unheard=st.booleans())
    def say(self, unheard: bool) -> None:
        """A verdict, which may be lost with every connection; one more than may wait ends the session."""
        assert self.session is not None
        self.said += 1
        assert self.listener.send(self.session, verdict([7], self.said))
        if self.said - self.acknowledged > WINDOW:
            assert self.hear(_native.Disconnected) == self.session
            return self.begin_anew()
        for path in list(self.paths):
            if unheard:
                self.drop(path)
            else:
                self.learn(self.settle(path))

    def expire(self) -> None:
        assert self.session is not None
        self.listener.disconnect(self.session)
        for path in self.paths:
            self.settle(path)
            path.peer.send(frame(raw_peer.RESUME, self.id + bytes(8), channel=CHANNEL))
            answers = self.settle(path)
            assert [(a.kind, a.code) for a in answers] == [(raw_peer.ERROR, raw_peer.UNKNOWN_SESSION)]
        self.begin_anew()

    # What holds

    @invariant()
    def everything_came_once_and_in_order(self) -> None:
        self.listen(self.listener.poll(0))
        assert self.executed == max(0, self.prefix_came - 1), (
            "a block is missing, or waits for none before it"
        )

    @invariant()
    def memory_is_bounded(self) -> None:
        assert self.listener.leased_bytes <= (len(self.paths) + EARLY) * SLAB_BYTES

    # The model's means

    @property
    def prefix_came(self) -> int:
        """Every frame up to this number has reached the server."""
        return next(number for number in itertools.count() if number + 1 not in self.came)

    @property
    def prefix_held(self) -> int:
        return next(number for number in itertools.count() if number + 1 not in self.held)

    def numbered(self, sequence: int, acknowledge: int) -> bytes:
        said = (
            opening(CHANNEL, self.id, [1])
            if sequence == 1
            else raw_peer.block(CHANNEL, 0, sequence, [5], [ROOT])
        )
        return said[:8] + sequence.to_bytes(4, "little") + acknowledge.to_bytes(4, "little") + said[16:]

    def settle(self, path: Path) -> list[Frame]:
        """What the server said on this connection until it had taken in everything before; not ACKs."""
        clock = next(self.clock)
        path.peer.send(frame(raw_peer.PING, clock.to_bytes(8, "little")))
        answers = []
        while True:
            answer = path.peer.next()
            assert answer is not None, "the server ended the connection"
            if answer.kind == raw_peer.PONG and answer.payload[:8] == clock.to_bytes(8, "little"):
                return answers
            if answer.kind == raw_peer.ACK or answer.channel == CHANNEL:
                assert answer.kind == raw_peer.ERROR or answer.acknowledge <= self.prefix_came
            if answer.kind != raw_peer.ACK:
                answers.append(answer)

    def learn(self, answers: list[Frame]) -> None:
        for answer in answers:
            assert answer.kind == raw_peer.VERDICT, answer
            assert int.from_bytes(answer.payload[:4], "little") == answer.sequence, "renumbered"
            self.held.add(answer.sequence)

    def is_refused(self, path: Path) -> None:
        """It broke the protocol: an ERROR, and the connection ends."""
        error = path.peer.until(raw_peer.ERROR)
        assert error is not None and (error.code, error.channel) == (raw_peer.PROTOCOL, 0)
        assert path.peer.closed()
        self.drop(path)

    def drop(self, path: Path) -> None:
        path.peer.socket.close()
        self.paths.remove(path)
        while self.hear(_native.Disconnected) != path.number:
            pass

    def hear(self, kind: type) -> int:
        """Listens until something of that kind has come; whose."""
        while True:
            for at, (number, message) in enumerate(events := self.listener.poll(MAX_WAIT_S)):
                self.listen(events[at : at + 1])
                if isinstance(message, kind):
                    self.listen(events[at + 1 :])
                    return number
            assert events, f"no {kind.__name__} came"

    def listen(self, events: list[tuple[int, Any]]) -> None:
        for number, message in events:
            if isinstance(message, _native.Open):
                assert self.session is None, "opened twice"
                self.session = number
            elif isinstance(message, _native.Block):
                assert number == self.session
                assert message.first_node == self.executed + 2, "executed twice, or out of order"
                self.executed += 1
            elif isinstance(message, (_native.Away, _native.Returned)):
                assert number == self.session and self.away is isinstance(message, _native.Returned)
                self.away = not self.away


Delivery.TestCase.settings = settings(
    max_examples=20,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestDelivery = pytest.mark.timeout(300)(Delivery.TestCase)
