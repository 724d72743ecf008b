"""The server: turns the verifying loop with sockets and a target.

Its thread takes in what came, runs the next forward, and sends hints while deeper layers run and verdicts when the last
layer has decided. The link's I/O thread is C++ and goes on meanwhile.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from edgespec import _native
from edgespec.core.address import DEFAULT_PORT, Address
from edgespec.core.guide_limits import MATCHER_BYTES
from edgespec.core.guide_matcher import Guides
from edgespec.core.memory import resident_bytes
from edgespec.core.pacing import ForwardPacing
from edgespec.model.target_engine import TargetEngine
from edgespec.server.admission import Admission
from edgespec.server.file_watch import FileWatch
from edgespec.server.forwards import ForwardRunner, learn_cost
from edgespec.server.frames import welcome_frame
from edgespec.server.gate import CONNECTION_BYTES, SESSION_BYTES, Gate
from edgespec.server.guide_compiler import GuideCompiler
from edgespec.server.hosted_drafts import HostedDrafts
from edgespec.server.intake import BATCH_EVENTS, BATCH_NODES, Intake
from edgespec.server.open_sessions import OpenSessions
from edgespec.server.opening import Opening
from edgespec.server.pictures import KEPT_BYTES, WAITING_BYTES, Pictures
from edgespec.server.requests import Requests
from edgespec.server.settings import ServerSecurity, ServerSettings
from edgespec.server.shared_memory import HOLDER_BYTES, MOST_HOLDERS, shared_memory
from edgespec.server.tokenizer_offer import TokenizerOffer
from edgespec.verifying.loop import VerifyingLoop

Answer = TypeVar("Answer")

TOKEN_BYTES = 128
"""Of a session's text, in what finds its continuations and in the map of its slots, for each token."""


class Server:
    """Serves one target to many sessions on one listening address; `port` 0 takes a free one."""

    def __init__(
        self,
        target: TargetEngine,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        settings: ServerSettings | None = None,
    ) -> None:
        """Raises EdgespecError where it may not listen there, or cannot."""
        settings = settings or ServerSettings()
        tokens = settings.security.tokens
        # Watched from before they are read: nothing that is revoked meanwhile is missed.
        self._watched = nullcontext() if tokens is None else FileWatch(tokens, self._follow_tokens)
        gate = self._gate = _gate(target, host, port, settings)
        listener = self.listener = gate.listener
        self.target_id = target.target_id
        self.max_sessions = settings.max_sessions
        self._memory_parts = _memory_parts(target, settings)
        self.host = host
        self.port: int = listener.port
        self._mailbox = _hint_mailbox(target, listener)
        loop = self._loop = VerifyingLoop(target.forward_cost)
        sessions = self.sessions = OpenSessions(loop, gate, settings.resume_for_s, settings.metrics)
        admission = self._admission = Admission(sessions.table, settings, loop.cost, loop.limits.rows)
        self._calls: SimpleQueue[Callable[[], object]] = SimpleQueue()
        pictures = self._pictures = Pictures(target, sessions, self.call)
        matchers = Guides(target.tokenizer_path, target.vocabulary_size, target.end_tokens, time.thread_time)
        guides = self._guides = GuideCompiler(matchers, sessions, self.call)
        drafters = settings.server_drafters
        opening = Opening(
            target, loop, gate, sessions, admission, drafters, guides, pictures, shared_memory(settings)
        )
        self._requests = Requests(target, opening, gate, sessions, admission, drafters, pictures)
        by_mailbox = self._mailbox is not None
        hosted_drafts = HostedDrafts(sessions, loop, settings.metrics)
        self._forwards = ForwardRunner(
            target, loop, sessions, admission, listener, settings.metrics, hosted_drafts, by_mailbox
        )
        if settings.latency_ms is not None:
            learn_cost(target, self._loop)
        self._forward_s = 0.0
        self._stopping = False
        self._drain_until_s: float | None = None

    def run(self) -> None:
        """Serve until `stop`."""
        with self._watched:
            self._serve()

    def _serve(self) -> None:
        try:
            while not (self._stopping or self._drained()):
                self._take_in()
                while not self._calls.empty():
                    self._calls.get()()
                self.sessions.expire(time.monotonic())
                begins_s = time.monotonic()
                if self._forwards.run_next():
                    self._forward_s = time.monotonic() - begins_s
        finally:
            if self._mailbox is not None:
                self._mailbox.close()
            self.listener.close()
            self._pictures.close()
            self._guides.close()
            self.sessions.end_all("the server stops")
            self._gate.audit.close()

    @property
    def promised(self) -> float:
        """Of the latency that may be promised, the share that is. In the server's loop."""
        return self._admission.promised

    @property
    def memory(self) -> str:
        """What this process holds, and what it may take beside that and the key-value pool, in words."""
        parts = {
            "what arrives": self.listener.most_leased_bytes,
            "what waits to be sent": self._gate.most_connections * CONNECTION_BYTES,
            **self._memory_parts,
        }
        words = ", ".join(f"{size >> 20} MiB for {what}" for what, size in parts.items() if size)
        most = sum(parts.values()) >> 20
        return f"{resident_bytes() >> 20} MiB resident, and at most {most} MiB more: {words}"

    # From any thread, or a signal handler

    def call(self, function: Callable[[], Answer]) -> Future[Answer]:
        """Run a function in the server's loop, soon."""
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

    def stop(self) -> None:
        """End `run` soon."""
        self._stopping = True
        self.listener.wake()

    def drain(self, timeout_s: float) -> None:
        """Open no more sessions, tell the edges, and end `run` when the last text is finished or after `timeout_s`.
        A second call ends it soon."""
        if self.sessions.draining:
            self.stop()
            return
        self._drain_until_s = time.monotonic() + timeout_s
        self.sessions.draining = True
        self.call(self._send_goaway)

    def reload(self) -> None:
        """Read certificates and tokens again, soon."""
        self.call(self._gate.reload)
        self.call(self.sessions.end_unknown)

    def _follow_tokens(self) -> None:
        self.call(self._gate.reload_tokens)
        self.call(self.sessions.end_unknown)

    # In the loop's thread

    def _take_in(self) -> None:
        """What arrived, for a share of a forward's time: the next one starts, whatever else waits."""
        batch = self.listener.poll_batch(self._timeout_s(), BATCH_EVENTS, BATCH_NODES)
        intake, last_s = Intake(self._forward_s, len(self._loop.devices)), time.monotonic()
        while batch.others or len(batch.numbers):
            self._requests.take(batch)
            begins_s, last_s = last_s, time.monotonic()
            if not intake.goes_on(last_s - begins_s, self._devices_of(batch)):
                break
            batch = self.listener.poll_batch(0.0, BATCH_EVENTS, BATCH_NODES)

    def _devices_of(self, batch: _native.Batch) -> set[Hashable]:
        """Whose messages these are, as far as they are those of sessions."""
        sessions = (self._loop.sessions.get(number) for number in batch.numbers.tolist())
        return {session.device for session in sessions if session is not None}

    def _send_goaway(self) -> None:
        for connection in self._gate.welcomed:
            self.listener.send(connection, _native.encode_goaway(message="the server is being stopped"))

    def _drained(self) -> bool:
        if self._drain_until_s is None:
            return False
        return not self.sessions.unfinished or time.monotonic() >= self._drain_until_s

    def _timeout_s(self) -> float | None:
        """How long to wait for messages: until the next forward may start or a session expires; None: for ever."""
        now_s = time.monotonic()
        waits_s = [self._loop.wait_s(now_s), self.sessions.next_expiry_s(now_s)]
        if self._drain_until_s is not None:
            waits_s.append(max(0.0, self._drain_until_s - now_s))
        return min((wait_s for wait_s in waits_s if wait_s is not None), default=None)


def _gate(target: TargetEngine, host: str, port: int, settings: ServerSettings) -> Gate:
    """Where devices connect, and what each is told of this target."""
    offer = TokenizerOffer(target.tokenizer_path and target.tokenizer_path.parent)
    hosts_draft = settings.server_drafters is not None
    welcome = welcome_frame(
        target, hosts_draft, offer.hash, settings.sampling_defaults, settings.shared_memory
    )
    return Gate(host, port, settings, welcome, target.vocabulary_hash, offer)


def _memory_parts(target: TargetEngine, settings: ServerSettings) -> dict[str, int]:
    """What sessions may take beside keys and values, in bytes."""
    sessions = settings.max_sessions
    return {
        f"{sessions} sessions": sessions * (SESSION_BYTES + TOKEN_BYTES * target.context_length),
        "their guides": 0 if target.tokenizer_path is None else sessions * MATCHER_BYTES,
        "pictures": 0 if target.picture_format is None else KEPT_BYTES + WAITING_BYTES,
        "shared texts": MOST_HOLDERS * HOLDER_BYTES if settings.shared_memory else 0,
    }


def _hint_mailbox(target: TargetEngine, listener: _native.Listener) -> _native.HintMailbox | None:
    """Through which hints leave without the loop, where the target's exits can use one: on CUDA."""
    hints = target.hint_cells
    if hints is None:
        return None
    mailbox = _native.HintMailbox(listener, hints.cells, target.exit_layers, hints.max_sessions)
    hints.mailbox = mailbox
    return mailbox


def serve(
    target: str | Path | None = None,
    *,
    exits: str | Path | None = "auto",
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    dtype: str = "auto",
    pace: ForwardPacing | None = None,
    security: ServerSecurity | None = None,
) -> None:
    """Load a target (a folder or model id; None: the bundled one) and serve it until interrupted.

    security: certificates and tokens; other machines are served with both only.
    """
    from edgespec.model.target import Target  # torch

    settings = ServerSettings(security=security or ServerSecurity())
    settings.security.check(host)
    server = Server(Target.load(target, exits=exits, dtype=dtype, pace=pace), host, port, settings)
    print(f"edgespec: listening on {Address(server.host, server.port)}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
