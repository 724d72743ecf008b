"""The server: joins the wire, the scheduler and the target.

One loop: take in what came, run the next session's forward, send its hints while deeper layers run and its verdict
when the last layer has decided. The link's I/O thread is C++ and goes on meanwhile. What to verify and what it means
is the verifier's business.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from edgespec import _native
from edgespec.core.pacing import Pace
from edgespec.edge.handshake import DEFAULT_PORT
from edgespec.model.target_engine import TargetEngine
from edgespec.server.admission import Admission, Overloaded
from edgespec.server.forwards import Forwards
from edgespec.server.gate import VOID, Gate, ServerSecurity
from edgespec.server.refusal import Refused
from edgespec.server.requests import Promises, Requests
from edgespec.server.server_session import ServerDrafters, ServerSession
from edgespec.server.session_table import SessionTable
from edgespec.verifying.verifier import BadBlock

if TYPE_CHECKING:
    from edgespec.server.metrics import Metrics

log = logging.getLogger("edgespec.server")
Answer = TypeVar("Answer")
Tokens = Sequence[int] | np.ndarray[Any, np.dtype[np.int32]]

MAX_SESSIONS = 1024
RESUME_FOR_S = 60.0
"""How long a session waits for an edge whose connections are gone."""


class Server:
    """Serves one target to many sessions on one listening address; `port` 0 takes a free one."""

    def __init__(
        self,
        target: TargetEngine,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        *,
        max_sessions: int = MAX_SESSIONS,
        latency_ms: float | None = None,
        least_latency_ms: float | None = None,
        resume_for_s: float = RESUME_FOR_S,
        dead_after_s: float = 2.5,
        metrics: Metrics | None = None,
        security: ServerSecurity | None = None,
        server_drafters: ServerDrafters | None = None,
        busy_spin: bool = False,
        pinning: tuple[int, int] | None = None,
    ) -> None:
        """latency_ms: a token's target, for sessions that ask for none; least_latency_ms: the least that one may ask
        for; else `latency_ms`, or anything that forwards allow.
        server drafters: makes one for a session that wants to be drafted for; None: this server hosts no draft.
        security: who may come in, and whether links are encrypted; without it this machine only.
        busy_spin: nobody who waits for the sockets sleeps, which takes a core and spares the time to wake up.
        pinning: by what the link's buffers are pinned (edgespec/server/pinned.py)."""
        self._target = target
        self._gate = Gate(
            host,
            port,
            security or ServerSecurity(),
            dead_after_s=dead_after_s,
            busy_spin=busy_spin,
            pinning=pinning,
        )
        self.listener = self._gate.listener
        self.host = host
        self.port: int = self.listener.port
        self.metrics_port: int | None = None
        self._sessions: SessionTable[ServerSession] = SessionTable(resume_for_s)
        self._metrics = metrics
        self._mailbox = self._watch_hints()
        watched = self._mailbox is not None
        self._forwards = Forwards(
            target,
            self.listener.send,
            self._fail,
            metrics=metrics,
            watched=watched,
            rtt_ms=self.listener.rtt_ms,
        )
        self._admission = Admission(
            self._sessions, max_sessions, self._forwards.cost, self._forwards.limits.rows
        )
        promises = Promises(latency_ms, least_latency_ms)
        self._requests = Requests(
            target,
            self._sessions,
            self._gate,
            self._admission,
            self._forget,
            server_drafters,
            metrics,
            promises,
        )
        if latency_ms is not None:
            self._forwards.learn_cost()
        self._stopping = False
        self._drain_until_s: float | None = None
        self._calls: SimpleQueue[Callable[[], object]] = SimpleQueue()

    def run(self) -> None:
        """Serve until `stop`."""
        try:
            while not self._stopping:
                self._take_in(self.listener.poll_batch(self._idle_s()))
                while not self._calls.empty():
                    self._calls.get()()
                for number in self._sessions.expired(time.monotonic()):
                    self._forget(number, "its edge did not come back in time")
                self._forward()
                if self._drained():
                    break
        finally:
            if self._mailbox is not None:
                self._mailbox.close()
            self.listener.close()
            for number in list(self._sessions):
                self._forget(number, "the server stops")

    def _watch_hints(self) -> _native.HintMailbox | None:
        """The mailbox through which hints leave without this loop, where the target's exits can tell one: on CUDA."""
        hints = self._target.hint_cells
        if hints is None:
            return None
        mailbox = _native.HintMailbox(
            self.listener, hints.cells, self._target.exit_layers, hints.max_sessions
        )
        hints.mailbox = mailbox
        return mailbox

    def call(self, function: Callable[[], Answer]) -> Future[Answer]:
        """Run a function in the server's loop, soon; from any thread."""
        future: Future[Answer] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except Exception as error:
                    future.set_exception(error)

        self._calls.put(run)
        self.listener.wake()
        return future

    def summaries(self) -> list[dict[str, Any]]:
        """What every session has been so far. In the server's loop."""
        return [session.summary() for session in self._sessions.values()]

    @property
    def open(self) -> int:
        return len(self._sessions)

    @property
    def running(self) -> int:
        """Texts that are not finished. In the server's loop."""
        return sum(session.verifier.finish is None for session in self._sessions.values())

    @property
    def draining(self) -> bool:
        return self._drain_until_s is not None

    def drain(self, timeout_s: float) -> None:
        """Take no new sessions, tell the edges, and end `run` when the last text is finished, or after `timeout_s`;
        may be called from a signal handler. The second call ends it soon."""
        if self.draining:
            self.stop()
            return
        self._drain_until_s = time.monotonic() + timeout_s
        self.call(self._say_goaway)

    def reload(self) -> None:
        """Read certificates and tokens again, soon; may be called from a signal handler or another thread."""
        self.call(self._reload)

    def _reload(self) -> None:
        self._gate.reload()
        for number in self._sessions.of_devices_but(self._gate.knows):
            self._forget(number, VOID)

    def _say_goaway(self) -> None:
        for connection in self._gate.welcomed:
            self.listener.send(connection, _native.encode_goaway("the server is being stopped"))

    def _drained(self) -> bool:
        if self._drain_until_s is None:
            return False
        return not self.running or time.monotonic() >= self._drain_until_s

    def stop(self) -> None:
        """End `run` soon; may be called from a signal handler or another thread."""
        self._stopping = True
        self.listener.wake()

    def _idle_s(self) -> float | None:
        """How long to wait for messages: until the next forward may start or a session expires; None: for ever."""
        now_s = time.monotonic()
        waits_s: list[float | None] = [self._hold_s(now_s)]
        waits_s.append(self._sessions.next_expiry_s(now_s))
        if self._drain_until_s is not None:
            waits_s.append(max(0.0, self._drain_until_s - now_s))
        return min((wait for wait in waits_s if wait is not None), default=None)

    def _hold_s(self, now_s: float) -> float | None:
        """Seconds until the next forward starts; None: nobody has anything to run."""
        waits = [(wait_s, s) for s in self._sessions.values() if (wait_s := s.wait_s(now_s)) is not None]
        ready = [session for wait_s, session in waits if wait_s == 0.0]
        if not ready:
            return min((wait_s for wait_s, _ in waits), default=None)
        if len(ready) == len(self._sessions):
            return 0.0
        expected_s = (session.expected_s(now_s) for session in self._sessions.values())
        low_priority = all(session.low_priority for session in ready)
        return self._forwards.batching_delay.hold_s(
            len(ready), (at for at in expected_s if at is not None), now_s, low_priority
        )

    # What arrives

    def _take_in(self, batch: _native.Batch) -> None:
        """What happened, in its order: a batch has its blocks last."""
        for number, message in batch.others:
            try:
                self._hear(number, message)
            except Refused as refused:
                self._refuse(number, getattr(message, "channel", 0), refused)
            except Exception as error:  # whoever sent it ends, and nobody with it
                log.exception("a %s could not be taken in", type(message).__name__)
                self._refuse(number, getattr(message, "channel", 0), _internal(error))
        if len(batch.numbers):
            self._take_blocks(batch)

    def _take_blocks(self, batch: _native.Batch) -> None:
        """The blocks of all sessions: what numpy does, it does once for all of them."""
        now_s = time.monotonic()
        sound = self._requests.are_tokens(batch.nodes["token"])
        tokens, parents = batch.nodes["token"].tolist(), batch.nodes["parent"].tolist()
        probabilities = (batch.nodes["probability"] / 255.0).tolist()
        offsets = batch.offsets.tolist()
        blocks = zip(batch.numbers.tolist(), batch.first_nodes.tolist(), offsets, offsets[1:], strict=False)
        for number, first_node, start, end in blocks:
            try:
                if number in self._gate:
                    self._gate.hear(number, None, self._requests.welcome, self._target.vocabulary_hash)
                elif (session := self._sessions.get(number)) is not None:
                    if not sound:
                        self._requests.check_tokens(tokens[start:end])
                    ready = session.verifier.ready
                    session.verifier.receive(
                        first_node, tokens[start:end], parents[start:end], probabilities[start:end]
                    )
                    if not ready and session.verifier.ready:
                        session.saw_return(now_s)
            except BadBlock as error:
                self._refuse(number, 0, Refused(_native.ErrorCode.PROTOCOL, str(error)))
            except Refused as refused:
                self._refuse(number, 0, refused)
            except Exception as error:
                log.exception("a block could not be taken in")
                self._refuse(number, 0, _internal(error))

    def _hear(self, number: int, message: Any) -> None:
        """An event of a connection or of a session: their numbers are from one row."""
        if number in self._gate or isinstance(message, _native.Connected):
            self._gate.hear(number, message, self._requests.welcome, self._target.vocabulary_hash)
        else:
            self._hear_session(number, message)

    def _hear_session(self, number: int, message: Any) -> None:
        session = self._sessions.get(number)
        if isinstance(message, _native.Open) and session is None:
            if message.latency_us:
                self._forwards.learn_cost()
            self._requests.open(number, message, self.draining)
        elif session is None:
            log.debug("a %s came for a session that has ended", type(message).__name__)
        elif isinstance(message, _native.Away):
            session.leave()
            if (ended := self._sessions.away(number, time.monotonic())) is not None:
                self._forget(ended, "its device has too many sessions away")
        elif isinstance(message, _native.Returned):
            session.come_back()
            self._sessions.returned(number)
        elif isinstance(message, _native.Disconnected):
            self._forget(number, message.reason)
        elif isinstance(message, _native.Close):
            self._forget(number, "closed")
        else:
            self._requests.instruct(session, message)

    # A forward

    def _forward(self) -> None:
        """One forward of the sessions that are ready, if any are."""
        now_s = time.monotonic()
        if self._hold_s(now_s) != 0.0:
            return
        ready = [session for session in self._sessions.values() if session.wait_s(now_s) == 0.0]
        for session in [session for session in ready if not session.held]:
            try:
                self._admission.hold(session)
            except Overloaded as full:
                ready.remove(session)
                self._end(session, _native.ErrorCode.OVERLOADED, full.message, full.retry_after_ms)
        if ready:
            self._forwards.run(ready)

    def _fail(self, session: ServerSession, error: Exception) -> None:
        self._end(session, _native.ErrorCode.INTERNAL, f"the target failed: {error}")

    def _end(
        self, session: ServerSession, code: _native.ErrorCode, message: str, retry_after_ms: int = 0
    ) -> None:
        """A session cannot go on here; its edge may open it again, here or elsewhere."""
        self._refuse(session.number, 0, Refused(code, message, retryable=True, retry_after_ms=retry_after_ms))

    # What leaves

    def _refuse(self, number: int, channel: int, refused: Refused) -> None:
        """Say so; the connection or session that is told so ends."""
        log.info("refused: %s", refused.message)
        self.listener.send(number, refused.frame(channel))
        if self._metrics is not None:
            self._metrics.saw_refusal(refused.code.name)
        if number in self._gate:
            self.listener.disconnect(number)
        else:
            self._forget(number, refused.message)

    def _forget(self, number: int, reason: str) -> None:
        """The listener forgets the session too, after what was sent to it."""
        session = self._sessions.remove(number)
        self.listener.disconnect(number)
        if session is not None:
            summary = " ".join(f"{key}={value}" for key, value in session.summary().items())
            log.info('%s reason="%s"', summary, reason)
            session.let_go()
            session.draft_elsewhere()
            if self._metrics is not None:
                self._metrics.saw_end()


def _internal(error: Exception) -> Refused:
    return Refused(_native.ErrorCode.INTERNAL, f"the server failed: {error}", retryable=True)


def serve(
    target: str | Path | None = None,
    *,
    exits: str | Path | None = "auto",
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    dtype: str = "auto",
    pace: Pace | None = None,
    security: ServerSecurity | None = None,
) -> None:
    """Load a target (a folder or model id; None: the bundled one) and serve it until interrupted.

    security: certificates and tokens (edgespec.server.gate.ServerSecurity); other machines are served with both only.
    """
    from edgespec.model.target import Target  # torch

    (security or ServerSecurity()).check(host)
    server = Server(Target.load(target, exits=exits, dtype=dtype, pace=pace), host, port, security=security)
    print(f"edgespec: listening on {server.host}:{server.port}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
