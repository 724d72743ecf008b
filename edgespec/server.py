"""The server: joins the wire, the scheduler and the target.

One loop: take in what came, run the next session's forward, send its hints while deeper layers run and its verdict
when the last layer has decided. The link's I/O thread is C++ and goes on meanwhile. What to verify and what it means
is the verifier's business.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgespec import _native
from edgespec.errors import EdgespecError
from edgespec.handshake import DEFAULT_PORT
from edgespec.pacing import Pace
from edgespec.measures import LinearCost
from edgespec.params import SamplingParams
from edgespec.scheduler import Scheduler
from edgespec.target import ExitRows, Target
from edgespec.verifier import BadBlock, Forward, Verdict, Verifier

log = logging.getLogger("edgespec.server")

MAX_SESSIONS = 64
MAX_FRAME_BYTES = 1 << 16
MAX_BLOCK_NODES = 1024
DRAFT_ROWS = 64
MAX_PATIENCE_MS = 1000.0

FINISH = {None: _native.FinishReason.NONE, "stop": _native.FinishReason.STOP, "length": _native.FinishReason.LENGTH}


class Refused(Exception):
    """What a peer asked for is answered with an ERROR."""

    def __init__(self, code: _native.ErrorCode, message: str, *, retryable: bool = False, fatal: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable
        self.fatal = fatal


class ServedSession:
    """One session: its verifier, its keys and values, its parameters."""

    def __init__(
        self, connection: int, channel: int, opened: _native.Open, target: Target, cost: LinearCost
    ) -> None:
        self.connection = connection
        self.channel = channel
        self.turn = 0
        self.params = _sampling_params(opened)
        self.seed: int = opened.seed
        self.verifier = Verifier(
            opened.tokens.tolist(),
            max_new_tokens=opened.max_new_tokens,
            end_tokens=() if opened.ignore_eos else target.end_tokens,
            context_length=target.context_length,
            fill=opened.fill,
            hint_threshold=opened.hint_threshold if opened.hints else None,
            cost=cost,
            draft_rows=DRAFT_ROWS,
        )
        self.concluded_s = 0.0
        self.cache = target.open_cache(self.verifier.slots.capacity)

    @property
    def ready(self) -> bool:
        return self.wait_s() == 0.0

    def wait_s(self) -> float | None:
        """Seconds until its next forward may start; None: there is nothing to run."""
        if not self.verifier.ready:
            return None
        if not self.verifier.patient:
            return 0.0
        return max(0.0, self.concluded_s + self.verifier.patience_ms / 1e3 - time.monotonic())


class Server:
    """Serves one target to many sessions on one listening address; `port` 0 takes a free one."""

    def __init__(self, target: Target, host: str = "127.0.0.1", port: int = DEFAULT_PORT) -> None:
        self._target = target
        try:
            self._listener = _native.Listener(host, port)
        except OSError as error:
            raise EdgespecError(f"cannot listen on {host}:{port} ({error}): choose another --port.") from None
        self.host = host
        self.port: int = self._listener.port
        self._welcomed: set[int] = set()
        self._sessions: dict[tuple[int, int], ServedSession] = {}
        self._scheduler: Scheduler[ServedSession] = Scheduler()
        self._cost = LinearCost()
        self._stopping = False

    def run(self) -> None:
        """Serve until `stop`."""
        try:
            while not self._stopping:
                waits_s = [wait for session in self._sessions.values() if (wait := session.wait_s()) is not None]
                for connection, message in self._listener.poll(min(waits_s, default=None)):
                    self._take_in(connection, message)
                session = self._scheduler.next()
                if session is not None:
                    self._forward(session)
        finally:
            self._listener.close()

    def stop(self) -> None:
        """End `run` soon; may be called from a signal handler or another thread."""
        self._stopping = True
        self._listener.wake()

    # What arrives

    def _take_in(self, connection: int, message: Any) -> None:
        channel = getattr(message, "channel", 0)
        try:
            self._dispatch(connection, message)
        except Refused as refused:
            log.info("refused: %s", refused.message)
            self._refuse(connection, channel, refused)

    def _dispatch(self, connection: int, message: Any) -> None:
        if isinstance(message, _native.Connected):
            return
        if isinstance(message, _native.Disconnected):
            self._forget_connection(connection, message.reason)
        elif isinstance(message, _native.Hello):
            self._welcome(connection, message)
        elif connection not in self._welcomed:
            raise Refused(_native.ErrorCode.PROTOCOL, "say HELLO first", fatal=True)
        elif isinstance(message, _native.Open):
            self._open(connection, message)
        elif isinstance(message, _native.Resume):
            raise Refused(_native.ErrorCode.UNKNOWN_SESSION, "this server keeps no session of a lost connection")
        else:
            self._instruct(connection, message)

    def _welcome(self, connection: int, hello: _native.Hello) -> None:
        target = self._target
        if not hello.version_min <= _native.PROTOCOL_VERSION <= hello.version_max:
            raise Refused(
                _native.ErrorCode.VERSION,
                f"this server speaks protocol version {_native.PROTOCOL_VERSION}, the edge {hello.version_min} to "
                f"{hello.version_max}: install the same edgespec on both",
                fatal=True,
            )
        if hello.vocabulary_hash != target.vocabulary_hash:
            raise Refused(
                _native.ErrorCode.VOCABULARY,
                f"the draft's tokenizer is not that of the target {target.target_id}: "
                "compile a draft that shares the target's tokenizer",
                fatal=True,
            )
        self._welcomed.add(connection)
        self._listener.send(
            connection,
            _native.encode_welcome(
                version=_native.PROTOCOL_VERSION,
                features=0,
                vocabulary_hash=target.vocabulary_hash,
                context_length=target.context_length,
                vocabulary_size=target.vocabulary_size,
                layers=target.layers,
                exit_layers=list(target.exit_layers),
                end_tokens=list(target.end_tokens),
                target_id=target.target_id,
                max_frame_bytes=MAX_FRAME_BYTES,
                max_block_nodes=MAX_BLOCK_NODES,
            ),
        )

    def _open(self, connection: int, opened: _native.Open) -> None:
        key = (connection, opened.channel)
        if key in self._sessions:
            raise Refused(_native.ErrorCode.PROTOCOL, f"channel {opened.channel} has a session already")
        if len(self._sessions) >= MAX_SESSIONS:
            raise Refused(_native.ErrorCode.OVERLOADED, "the server has all the sessions it can hold", retryable=True)
        if opened.rejection:
            raise Refused(_native.ErrorCode.PARAMETER, "this server does not offer rejection sampling")
        self._check_tokens(opened.tokens)
        if not 0 < len(opened.tokens) < self._target.context_length:
            raise Refused(
                _native.ErrorCode.CONTEXT,
                f"the prompt has {len(opened.tokens)} tokens, and the target's context holds "
                f"{self._target.context_length}: shorten the prompt",
            )
        try:
            session = ServedSession(connection, opened.channel, opened, self._target, self._cost)
        except EdgespecError as error:
            raise Refused(_native.ErrorCode.PARAMETER, str(error)) from None
        self._sessions[key] = session
        self._scheduler.add(session)

    def _instruct(self, connection: int, message: Any) -> None:
        session = self._sessions.get((connection, message.channel))
        if session is None:
            if not isinstance(message, _native.Close):
                raise Refused(_native.ErrorCode.UNKNOWN_SESSION, f"there is no session on channel {message.channel}")
            return
        verifier = session.verifier
        if isinstance(message, _native.Block):
            self._check_tokens(message.tokens)
            chances = (message.chances / 255.0).tolist()
            try:
                verifier.receive(message.first_node, message.tokens.tolist(), message.parents.tolist(), chances)
            except BadBlock as error:
                raise Refused(_native.ErrorCode.PROTOCOL, f"{error}", fatal=True) from None
        elif isinstance(message, _native.Append):
            self._append(session, message)
        elif isinstance(message, _native.Tune):
            verifier.fill = message.fill
            verifier.hint_threshold = message.hint_threshold if message.hints else None
            verifier.patience_ms = min(message.patience_us / 1e3, MAX_PATIENCE_MS)
        elif isinstance(message, _native.Close):
            self._forget(session)
        else:
            raise Refused(_native.ErrorCode.PROTOCOL, f"a server takes no {type(message).__name__}", fatal=True)

    def _append(self, session: ServedSession, append: _native.Append) -> None:
        text = session.verifier.text
        self._check_tokens(append.tokens)
        length = append.keep_length + len(append.tokens)
        if not 0 < append.keep_length <= len(text):
            raise Refused(_native.ErrorCode.PROTOCOL, f"cannot keep {append.keep_length} of {len(text)} tokens", fatal=True)
        if length >= self._target.context_length:
            raise Refused(_native.ErrorCode.CONTEXT, f"the turn makes the text {length} tokens long, over the context")
        session.turn = append.turn
        session.verifier.append(append.keep_length, append.tokens.tolist(), append.max_new_tokens)

    def _check_tokens(self, tokens: Sequence[int] | np.ndarray[Any, np.dtype[np.int32]]) -> None:
        array = np.asarray(tokens)
        if len(array) and not 0 <= int(array.min()) <= int(array.max()) < self._target.vocabulary_size:
            raise Refused(_native.ErrorCode.PARAMETER, f"token ids must lie in 0 to {self._target.vocabulary_size - 1}")

    # A forward

    def _forward(self, session: ServedSession) -> None:
        verifier = session.verifier
        forward = verifier.plan()
        start_s = time.monotonic()

        def send_hint(rows: ExitRows) -> None:
            guess = verifier.guess(forward, rows.tokens.tolist(), rows.chances.tolist())
            if guess is not None:
                frame = _native.encode_hint(
                    session.channel,
                    base_length=guess.base_length,
                    node=guess.reference,
                    token=guess.token,
                    confidence=guess.confidence,
                    layer=rows.layer,
                    clock_us=_clock_us(),
                    turn=session.turn,
                )
                self._listener.send(session.connection, frame)

        on_exit = send_hint if verifier.hint_threshold is not None and forward.nodes else None
        try:
            decisions = self._target.forward(
                session.cache, forward.piece, forward.decide, session.params, session.seed, on_exit
            )
        except Exception as error:  # a failing session never takes another with it
            log.exception("a forward failed; its session ends")
            self._forget(session)
            refused = Refused(_native.ErrorCode.INTERNAL, f"the target failed: {error}", retryable=True)
            self._refuse(session.connection, session.channel, refused)
            return
        forward_us = round((time.monotonic() - start_s) * 1e6)
        if len(forward.piece) <= DRAFT_ROWS:
            self._cost.observe(len(forward.piece), forward_us / 1e3)
        session.concluded_s = time.monotonic()
        verdict = verifier.conclude(forward, decisions.tokens.tolist())
        if verdict is not None:
            self._send_verdict(session, forward, verdict, decisions.logprobs, forward_us)

    def _send_verdict(
        self,
        session: ServedSession,
        forward: Forward,
        verdict: Verdict,
        logprobs: np.ndarray[Any, np.dtype[np.float32]],
        forward_us: int,
    ) -> None:
        self._listener.send(
            session.connection,
            _native.encode_verdict(
                session.channel,
                base_length=verdict.base_length,
                tokens=np.array(verdict.tokens, dtype=np.int32),
                logprobs=logprobs[verdict.picks] if session.params.logprobs else None,
                finish=FINISH[verdict.finish],
                forwards=session.verifier.forwards,
                rows=len(forward.nodes) - 1,
                forward_us=forward_us,
                clock_us=_clock_us(),
                turn=session.turn,
            ),
        )

    # What leaves

    def _refuse(self, connection: int, channel: int, refused: Refused) -> None:
        frame = _native.encode_error(channel, refused.code, refused.retryable, refused.message)
        self._listener.send(connection, frame)
        if refused.fatal:
            self._listener.disconnect(connection)
            self._forget_connection(connection, refused.message)

    def _forget_connection(self, connection: int, reason: str) -> None:
        self._welcomed.discard(connection)
        for session in [session for session in self._sessions.values() if session.connection == connection]:
            log.info("session ended with its connection: %s", reason)
            self._forget(session)

    def _forget(self, session: ServedSession) -> None:
        if self._sessions.pop((session.connection, session.channel), None) is not None:
            self._scheduler.remove(session)


def serve(
    target: str | Path | None = None,
    *,
    exits: str | Path | None = "auto",
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    dtype: str = "auto",
    pace: Pace | None = None,
) -> None:
    """Load a target (a folder or model id; None: the bundled one) and serve it until interrupted."""
    server = Server(Target.load(target, exits=exits, dtype=dtype, pace=pace), host, port)
    print(f"edgespec: listening on {server.host}:{server.port}", flush=True)
    try:
        server.run()
    except KeyboardInterrupt:
        pass


def _sampling_params(opened: _native.Open) -> SamplingParams:
    """The parameters of an OPEN, checked; what this server cannot do is refused. Raises EdgespecError."""
    if opened.min_p or opened.repetition_penalty != 1.0 or len(opened.logit_bias):
        raise EdgespecError("this server does not offer min_p, repetition_penalty and logit_bias yet: leave them unset")
    return SamplingParams(
        temperature=opened.temperature,
        top_k=opened.top_k,
        top_p=opened.top_p,
        seed=opened.seed,
        max_new_tokens=opened.max_new_tokens,
        ignore_eos=opened.ignore_eos,
        logprobs=opened.logprobs,
    )


def _clock_us() -> int:
    return time.monotonic_ns() // 1000 % 2**32
