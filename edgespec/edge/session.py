"""A text that is drafted here and verified by a server. `Session.step()`: drain the inbox, send, draft once more.

It returns when something was committed. It needs no threads of its own: the link's I/O thread is native, the engine
runs here. What to draft and what to send is the drafting loop's business, the link and its mending the connection's.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgespec import _native
from edgespec.core.address import DEFAULT_SERVER, Address, AnAddress
from edgespec.core.errors import EdgespecError
from edgespec.core.generation_config import with_defaults
from edgespec.core.measurements import Measurements
from edgespec.core.messages import Block, Hint, Verdict
from edgespec.core.pacing import DraftPacing
from edgespec.core.params import SamplingParams
from edgespec.core.pictures import PictureFormat
from edgespec.core.tokenizer import Tokenizer
from edgespec.core.tokenizer_archive import NO_HASH
from edgespec.drafting.loop import DraftingLoop
from edgespec.drafting.modes import policy
from edgespec.drafting.policy import Policy
from edgespec.edge.connection import ServerConnection
from edgespec.edge.directory import Directory
from edgespec.edge.handshake import whom_to_call
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.memory import Memory, recall
from edgespec.edge.opening import encoded_open
from edgespec.edge.provisional import ProvisionalText
from edgespec.edge.step import Step
from edgespec.edge.text_session import NO_PROMPT, Context, TextSession
from edgespec.edge.tokenizer import matched, recommended_sampling
from edgespec.edge.trace import Event, Timeline
from edgespec.engines.draft_engine import DraftEngine, load_draft

MAX_MESSAGES_PER_STEP = 32
"""A fast server cannot keep a step from returning."""

MAX_LATENCY_MS = 1e6

NO_SHARED_MEMORY = "this server shares no memory: start it with --shared-memory"


class Session(TextSession):
    """One text, drafted here and verified by `server`.

    server: "HOST:PORT" or (host, port), or several of them: when one is gone the text goes on at the next. directory:
    in its place, the address of what names servers, such as https://fleet.example; it is asked at the start, and when
    the server is lost, goes away or is full. draft: an engine, or the folder that `edgespec.compile` wrote; modes that
    do not draft need none. params: a mapping holds what is chosen, and the target's makers recommend the rest
    (generation_config.json). mode: the name of a policy (modes.py; "auto" chooses for itself) or a `Policy`;
    draft_tokens: the length of a block, or the depth of a tree. objective: what "auto" minimises: "latency", "cost"
    (target forwards; budget: how many a token it may use) or "energy" (drafting). latency_ms: the most that a token may
    take, or the server refuses. tokenizer: None: the target's, from the draft's folder or from the server. timeout_s:
    to connect and be welcomed; link: how hard the link is kept up from then on. trace: a list that takes the timeline's
    events. draft_pace: holds every run of the draft to a given time, for experiments. measurements: those of an earlier
    session on the same link and engines, so that "auto" need not learn them again. memory: what the device remembers,
    or its folder (docs/memory.md); None: nothing. shared_memory: the server may remember the text too. policy,
    measurements: this session's own. target: the first WELCOME; picture_format: how its target takes pictures, if any.

    Raises EdgespecError, whose message says what to do, when no server can be had, or one refuses.
    """

    def __init__(
        self,
        server: AnAddress | Sequence[AnAddress] = DEFAULT_SERVER,
        draft: DraftEngine | str | Path | None = None,
        params: SamplingParams | Mapping[str, Any] | None = None,
        *,
        directory: Directory | str | None = None,
        mode: str | Policy = "auto",
        draft_tokens: int | None = None,
        objective: str = "latency",
        budget: float | None = None,
        latency_ms: float | None = None,
        tokenizer: Tokenizer | None = None,
        timeout_s: float = 10.0,
        link: LinkOptions | None = None,
        trace: list[Event] | None = None,
        draft_pace: DraftPacing | None = None,
        measurements: Measurements | None = None,
        memory: Memory | str | Path | None = None,
        shared_memory: bool = False,
    ) -> None:
        _switch_threads_often()
        servers = whom_to_call(server, directory)
        chosen = policy(mode, draft_tokens, objective, budget) if isinstance(mode, str) else mode
        engine = load_draft(draft) if isinstance(draft, (str, Path)) else draft
        options = link or LinkOptions(timeout_s=timeout_s)
        _check(engine, chosen, options, latency_ms)
        self._latency_ms, self._shared_memory = latency_ms, shared_memory
        self._connection = ServerConnection(
            servers,
            NO_HASH if tokenizer is None else tokenizer.vocabulary_hash,
            options,
            self._encode_open,
            self._apply,
        )
        self.target = self._connection.target
        try:
            tokenizer, engine = matched(
                self._connection.link, self.target, tokenizer, engine, options.timeout_s
            )
            sampling = _with_recommended(params, self.target)
            self.picture_format = PictureFormat.from_json(self.target.pictures)
        except EdgespecError:
            self.close()
            raise
        self._recollection = recall(memory, self.target, tokenizer.vocabulary_hash, self.address, engine)
        loop = self._recollection.loop(chosen, measurements)
        context = Context(self.target.context_length, self.target.vocabulary_size, "target")
        super().__init__(loop, engine, tokenizer, sampling, context, draft_pace, trace)
        self._provisional, self._earlier_forwards = ProvisionalText(), 0

    def step(self, timeout_s: float | None = None) -> Step:
        """Work until something is committed, or `timeout_s` has passed: the step then brings no tokens."""
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while (step := self.collect()) is None:
            if self.draft_once() or self._receive(self.wait_s(deadline_s)):
                continue
            if deadline_s is not None and time.monotonic() >= deadline_s:
                return self.snapshot()
        return step

    @property
    def address(self) -> Address:
        """The server that has the session, or had it last."""
        return self._connection.address

    @property
    def provisional(self) -> str:
        """Text that the draft wrote with no server there, which follows `text` and is not verified yet."""
        return self._provisional.text

    def close(self) -> None:
        """End the session; the server forgets it."""
        self._connection.close()

    # The parts of a step, which `AsyncSession` turns too

    def fileno(self) -> int:
        """A descriptor that is readable while the link has something for us."""
        return self._connection.link.fileno()

    def wait_s(self, deadline_s: float | None) -> float | None:
        """How long to wait for the link, until `deadline_s` of the monotonic clock or until a block must be sent."""
        wake_ms = self._loop.wake_ms
        times_s = [time_s for time_s in (deadline_s, wake_ms and wake_ms / 1e3) if time_s is not None]
        return max(0.0, min(times_s) - time.monotonic()) if times_s else None

    def collect(self) -> Step | None:
        """Apply everything that has come and send what is ready; the step, if something was committed or the text
        ended."""
        if not self.prompt_tokens:
            raise EdgespecError(NO_PROMPT)
        for _ in range(MAX_MESSAGES_PER_STEP):
            if self.finished or not self._receive(0.0):
                break
        _send(self._loop, self._connection, self._timeline)
        news = self._output.fresh or self._provisional.has_news or self._connection.notes or self._loop.notes
        return self.snapshot() if news or self.finished else None

    def draft_once(self) -> bool:
        """Run the draft once; False where there is nothing to draft."""
        if self._drafter is None:
            return False
        if self._provisional.active:
            self._connection.writing = self._provisional.writing
            return self._provisional.write(self._drafter)
        start_s = time.monotonic()
        nodes = self._drafter.run(self._loop)
        if nodes is not None and self._timeline is not None:
            self._timeline.drafted(start_s, time.monotonic(), nodes)
        return nodes is not None

    def snapshot(self) -> Step:
        link, statistics = self._connection.link, self.statistics
        statistics.bytes_up, statistics.bytes_down = link.bytes_sent, link.bytes_received
        statistics.rtt_ms, statistics.hedged = link.rtt_ms, link.frames_hedged
        statistics.link_losses = self._connection.losses
        if self.finished:
            self._provisional.drop()
        provisional, revised = self._provisional.take()
        events = [*self._connection.notes, *self._loop.notes, *self._recollection.take_notes()]
        self._connection.notes.clear()
        self._loop.notes.clear()
        return replace(super().snapshot(), provisional=provisional, revised=revised, events=events)

    # What happens

    def _receive(self, timeout_s: float | None) -> bool:
        """Handle what comes next, if anything does in time. While no server is there the draft writes alone."""
        if not self._connection.receive(timeout_s):
            return False
        loop, offline = self._loop, self._connection.offline
        if offline != self._provisional.active:
            if offline:
                most = min(loop.remaining, self.target.context_length - len(loop.text))
                ends = self.params.ends(self.target.end_tokens.tolist())
                self._provisional.begin(loop.text, self._output.stream, most, ends)
            else:
                self._provisional.end()
            self._connection.writing = self._provisional.writing
            loop.clear_tree()
            if self._drafter is not None:
                self._drafter.truncate(len(loop.text) - 1)
        return True

    def _apply(self, message: Verdict | Hint) -> None:
        now_s, link = time.monotonic(), self._connection.link
        self.measurements.observe_link(link.rtt_ms, link.jitter_ms, self._connection.welcome.hosts_draft)
        nodes = self._loop.on_message(message, now_s * 1e3)
        if self._timeline is not None:
            self._timeline.received(now_s, message, link.rtt_ms, self._loop.sources)
        if isinstance(message, Hint):
            return
        if self._drafter is not None:
            self._drafter.commit(nodes, self._loop.tree)
        self.statistics.target_forwards = self._earlier_forwards + message.forwards
        self.statistics.forward_ms += message.forward_ms
        self._provisional.committed(message.tokens)
        self._commit(message.tokens, message.finish, message.logprobs, message.top_logprobs)
        if self.finished:
            self._recollection.turn_ended(self._loop)

    def _encode_open(self) -> bytes:
        """An OPEN that tells a server everything: the text so far is its prompt, and the next tokens are the same."""
        assert self.params.seed is not None
        link, loop = self._connection.link, self._loop
        self.measurements.observe_link(link.rtt_ms, link.jitter_ms, self._connection.welcome.hosts_draft)
        self._earlier_forwards = self.statistics.target_forwards
        if self._shared_memory and not self._connection.welcome.shared_memory:
            self._connection.notes.append(NO_SHARED_MEMORY)
        return encoded_open(
            self.params,
            self.params.seed,
            loop.open(),
            loop.text,
            loop.remaining,
            self._latency_ms,
            generated=len(loop.text) - loop.turn_start,
            pictures=self._connection.picture_section(self.pictures),
            shared_memory=self._shared_memory,
        )

    def _begin_turn(self, tokens: Sequence[int], start: int, max_new_tokens: int) -> None:
        super()._begin_turn(tokens, start, max_new_tokens)
        if start:
            new = [picture for picture in self.pictures if picture.span.first_row >= start]
            self._connection.append(start, tokens, max_new_tokens, new)
        else:
            self._connection.open()
        _send(self._loop, self._connection, self._timeline)

    def _stop(self, keep_length: int, reason: str) -> None:
        """End the text at this length; the server stops there as well, and verdicts on their way are void."""
        self._connection.append(keep_length, [], 0)
        super()._stop(keep_length, reason)
        self._recollection.turn_ended(self._loop)


def _send(loop: DraftingLoop, connection: ServerConnection, timeline: Timeline | None) -> None:
    """What is ready leaves."""
    now_s = time.monotonic()
    for message in loop.outgoing(now_s * 1e3):
        connection.send(message)
        if timeline is not None and isinstance(message, Block):
            timeline.sent(now_s, len(message.tokens))


def _with_recommended(
    chosen: SamplingParams | Mapping[str, Any] | None, target: _native.Welcome
) -> SamplingParams:
    if isinstance(chosen, SamplingParams):
        return chosen
    return with_defaults(chosen or {}, recommended_sampling(target))


def _switch_threads_often() -> None:
    """For the whole process: Python's threads take turns every 0.1 ms (not 5), so that drafting keeps none waiting."""
    sys.setswitchinterval(min(sys.getswitchinterval(), 1e-4))


def _check(
    engine: DraftEngine | None, chosen: Policy, options: LinkOptions, latency_ms: float | None
) -> None:
    """Raises EdgespecError for a session that lacks a draft, or asks for a latency that cannot be."""
    if latency_ms is not None and not 0 < latency_ms <= MAX_LATENCY_MS:
        raise EdgespecError(f"latency_ms must be above 0 and at most {MAX_LATENCY_MS:g}, not {latency_ms!r}.")
    if engine is None and chosen.drafts:
        raise EdgespecError(f"mode {chosen.name!r} needs a draft engine: pass draft=, or use mode='cloud'.")
    if engine is None and options.offline_after_s is not None:
        raise EdgespecError("going on offline needs a draft engine: pass draft=, or no offline_after_s.")
