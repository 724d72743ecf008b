"""The edge's loop. `Session.step()`: drain the inbox, apply what came, draft one more piece, send it.

It returns when something was committed. It needs no threads of its own: the link's I/O thread is C++, the engine runs
here. `AsyncSession` (async_session.py) turns the same parts. What to draft and what to send is the speculator's
business; the link and its mending are the uplink's.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from edgespec import _native
from edgespec.core.errors import EdgespecError
from edgespec.core.measurements import Measurements
from edgespec.core.pacing import DraftPace
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer, prompt_tokens
from edgespec.drafting.draft_runs import Drafting
from edgespec.drafting.drafter import Drafter
from edgespec.drafting.modes import policy
from edgespec.drafting.offline import Offline
from edgespec.drafting.policy import Policy
from edgespec.drafting.speculator import Speculator
from edgespec.edge.connection import Uplink, encoded_open
from edgespec.edge.handshake import DEFAULT_SERVER, AnAddress, parse_addresses
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.output_buffer import OutputBuffer
from edgespec.edge.recorder import Recorder
from edgespec.edge.statistics import Statistics
from edgespec.edge.step import Step
from edgespec.edge.trace import Event
from edgespec.edge.tuning import Tuning
from edgespec.engines.draft_engine import DraftEngine, load_draft

MOST_AT_ONCE = 32
"""Messages that one step takes in, so that a fast server cannot keep it from returning."""

MOST_LATENCY_MS = 1e6

FINISH_REASONS: dict[_native.FinishReason, str] = {
    _native.FinishReason.STOP: "stop",
    _native.FinishReason.LENGTH: "length",
}


class Session:
    """One text, drafted here and verified by `server`.

    server: "HOST:PORT" or (host, port), or several of them: when one is gone the text goes on at the next. draft: an
    engine, or the folder that `edgespec.compile` wrote; modes that do not draft need none. mode: the name of a policy
    (modes.py; "auto" chooses for itself) or a `Policy`; draft_tokens: the length of a block, or the depth of a tree.
    objective: what "auto" is after: "latency", "cost" (target forwards; budget: so many a token) or "energy" (drafts).
    latency_ms: a token shall take no longer, or the server refuses. tokenizer: for a session without a draft.
    timeout_s: to connect and be welcomed; link: how hard the link is kept up from then on. trace: a list that takes
    the timeline's events. draft_pace: holds every run of the draft to a given time, for experiments. measurements: an
    earlier session's, on the same link and engines: "auto" then need not learn them again, nor try hints again; the
    session's own are its `measurements`.

    Raises EdgespecError, whose message says what to do, when no server can be had, or one refuses.
    """

    def __init__(
        self,
        server: AnAddress | Sequence[AnAddress] = DEFAULT_SERVER,
        draft: DraftEngine | str | Path | None = None,
        params: SamplingParams | None = None,
        *,
        mode: str | Policy = "auto",
        draft_tokens: int | None = None,
        objective: str = "latency",
        budget: float | None = None,
        latency_ms: float | None = None,
        tokenizer: Tokenizer | None = None,
        timeout_s: float = 10.0,
        link: LinkOptions | None = None,
        trace: list[Event] | None = None,
        draft_pace: DraftPace | None = None,
        measurements: Measurements | None = None,
    ) -> None:
        sys.setswitchinterval(min(sys.getswitchinterval(), 1e-4))
        self.policy = policy(mode, draft_tokens, objective, budget) if isinstance(mode, str) else mode
        if latency_ms is not None and not 0 < latency_ms <= MOST_LATENCY_MS:
            raise EdgespecError(
                f"latency_ms must be above 0 and at most {MOST_LATENCY_MS:g}, not {latency_ms!r}."
            )
        self._latency_ms = latency_ms
        self._engine = load_draft(draft) if isinstance(draft, (str, Path)) else draft
        if self._engine is None and self.policy.drafts:
            raise EdgespecError(
                f"mode {self.policy.name!r} needs a draft engine: pass draft=, or use mode='cloud'."
            )
        if self._engine is None and tokenizer is None:
            raise EdgespecError("a session without a draft engine needs a tokenizer: pass tokenizer=.")
        self.params = params or SamplingParams()
        self.tokenizer = tokenizer or Tokenizer.load(self._engine.tokenizer_path)  # type: ignore[union-attr]
        self.statistics = Statistics()
        self.finish_reason: str | None = None
        options = link or LinkOptions(timeout_s=timeout_s)
        if self._engine is None and options.offline_after_s is not None:
            raise EdgespecError("going on offline needs a draft engine: pass draft=, or no offline_after_s.")
        self._uplink = Uplink(parse_addresses(server), self.tokenizer.vocabulary_hash, options, self._opening)
        self.target = self._uplink.target
        self.measurements = Measurements() if measurements is None else measurements.handed_on()
        self._speculator = Speculator(self.policy, self.measurements.calibration_ratios)
        self._held_until_s: float | None = None
        self._drafter: Drafter | None = None
        self._drafting: Drafting | None = None
        self._pace = draft_pace
        self.trace = trace
        self._recorder = Recorder(trace, self._uplink)
        self.prompt_tokens: list[int] = []
        self._tuning = Tuning(self.measurements, self._speculator, self._uplink)
        self._turn, self._turn_start = -1, 0
        self._turn_began_s = 0.0
        self._earlier_s = 0.0
        self._earlier_forwards = 0
        self._output = OutputBuffer(self.tokenizer, self.params.stop, ())
        self._offline = Offline()

    # A text's life

    def prompt(self, prompt: str | Sequence[int]) -> None:
        """Begin a text. Raises EdgespecError when the prompt is empty or too long for the target."""
        if self._turn >= 0:
            raise EdgespecError(
                "this session has its prompt already: use append() for a next turn, or a new session."
            )
        if self.params.seed is None:
            self.params = replace(self.params, seed=secrets.randbits(64))
        assert self.params.seed is not None
        tokens = prompt_tokens(self.tokenizer, prompt, True, self.target.vocabulary_size)
        if self._engine is not None:
            self._drafter = Drafter(self._engine, self.params.temperature, self.params.seed)
            self._drafting = Drafting(self._drafter, self._speculator, self.measurements, self._pace)
        self._begin_turn(tokens, self.params.max_new_tokens)
        self.prompt_tokens = tokens
        self._uplink.open()
        self._send_block()

    def append(self, text: str | Sequence[int], max_new_tokens: int | None = None) -> None:
        """The next turn: this goes behind the text so far, which is not read again by draft or target."""
        if not self.finished:
            raise EdgespecError("the text is not finished: append() waits for that, or cancel() first.")
        tokens = prompt_tokens(self.tokenizer, text, False, self.target.vocabulary_size)
        keep_length = len(self._speculator.text)
        limit = self.params.max_new_tokens if max_new_tokens is None else max_new_tokens
        self._begin_turn(tokens, limit)
        self._uplink.append(keep_length, tokens, limit, self._turn)
        self._send_block()

    def cancel(self) -> None:
        """Stop here; what is committed stays, and append() may go on from it."""
        if self._turn >= 0 and not self.finished:
            self._halt(len(self._speculator.text), "cancelled")

    def step(self, timeout_s: float | None = None) -> Step:
        """Work until something is committed, or `timeout_s` has passed: the step then brings no tokens."""
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while (step := self.collect()) is None:
            if not self.draft_piece():
                message = self._uplink.receive(self.wait_s(deadline_s))
                if message is not None:
                    self._apply(message)
                elif deadline_s is not None and time.monotonic() >= deadline_s:
                    return self.idle_step()
        return step

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    @property
    def tokens(self) -> list[int]:
        """The tokens generated in this turn."""
        return self._speculator.text[self._turn_start :]

    @property
    def text(self) -> str:
        """The text generated in this turn."""
        return self._output.text

    @property
    def provisional(self) -> str:
        """Text that the draft wrote with no server there, which follows `text` and is not verified yet."""
        return self._offline.text

    def close(self) -> None:
        """End the session; the server forgets it."""
        self._uplink.close()

    def __iter__(self) -> Iterator[Step]:
        while not self.finished:
            yield self.step()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    # The loop's parts, which `step` and its asyncio twin turn

    def fileno(self) -> int:
        """A descriptor that is readable while the link has something for us."""
        return self._uplink.fileno()

    def wait_s(self, deadline_s: float | None) -> float | None:
        """How long to wait for the link until that time of the monotonic clock, or until something is to be sent."""
        times_s = [time_s for time_s in (deadline_s, self._held_until_s) if time_s is not None]
        return max(0.0, min(times_s) - time.monotonic()) if times_s else None

    def idle_step(self) -> Step:
        """A step in which nothing was committed."""
        return self._step([], "", [])

    def collect(self) -> Step | None:
        """Apply everything that has come, and send what is then ready to be sent; the step, if something was committed
        or the text ended."""
        if self._turn < 0:
            raise EdgespecError("the session has no prompt yet: call prompt() first.")
        for _ in range(MOST_AT_ONCE):
            if self.finished or (message := self._uplink.receive(0.0)) is None:
                break
            self._apply(message)
        self._send_block()
        if not (self._output.fresh or self._offline.news or self._uplink.notes or self.finished):
            return None
        return self._step(*self._output.take())

    def draft_piece(self) -> bool:
        """Run the draft once, if there is something to draft."""
        if self._drafter is not None and self._offline.active:
            return self._write_alone(self._drafter)
        if self._drafting is None or self._speculator.draft_full:
            return False
        start_s = time.monotonic()
        nodes = self._drafting.run()
        if nodes is None:
            return False
        end_s = time.monotonic()
        self.statistics.draft_ms += (end_s - start_s) * 1e3
        self.statistics.draft_runs += 1
        self._recorder.drafted(start_s, end_s, nodes)
        return True

    def _write_alone(self, drafter: Drafter) -> bool:
        """With no server: one provisional token more, if there may be more."""
        self._uplink.writing = self._offline.writing
        if not self._offline.writing:
            return False
        if self._pace is not None:
            self._pace.begin()
        self._offline.write(drafter, self._speculator.text)
        if self._pace is not None:
            self._pace.hold(1)
        return True

    def _apply(self, message: Any) -> None:
        if self._uplink.offline != self._offline.active:
            self._go_offline() if self._uplink.offline else self._come_back()
        if isinstance(message, _native.Verdict):
            self._apply_verdict(message)
        elif isinstance(message, _native.Hint):
            self._apply_hint(message)

    def _apply_verdict(self, verdict: _native.Verdict) -> None:
        if verdict.turn != self._turn:
            return
        statistics = self.statistics
        now_s = time.monotonic()
        if statistics.ttft_ms is None:
            statistics.ttft_ms = (now_s - self._turn_began_s) * 1e3
        tokens: list[int] = verdict.tokens.tolist()
        path = self._speculator.verdict(verdict.base_length, tokens, verdict.rows)
        if self._drafter is not None:
            self._drafter.commit(path, self._speculator.tree)
        self._tuning.learn(verdict)
        statistics.committed += len(tokens)
        statistics.target_forwards = self._earlier_forwards + verdict.forwards
        statistics.forward_ms += verdict.forward_us / 1e3
        self._recorder.committed(now_s, verdict)
        self._offline.committed(tokens)
        piece = self._output.say(tokens, [] if verdict.logprobs is None else verdict.logprobs.tolist())
        if piece.stopped is not None:
            excess = len(tokens) - piece.tokens_used
            statistics.committed -= excess
            self._halt(len(self._speculator.text) - excess, "stop")
        elif verdict.finish in FINISH_REASONS:
            self._finish(FINISH_REASONS[verdict.finish])

    def _apply_hint(self, hint: _native.Hint) -> None:
        if hint.turn == self._turn:
            self._speculator.hint(hint.base_length, hint.node, hint.token, hint.confidence)
            self._recorder.hinted(time.monotonic(), hint)

    def _finish(self, reason: str) -> None:
        self._output.flush()
        full = len(self._speculator.text) >= self.target.context_length
        self.finish_reason = (
            "context" if reason == "length" and full and self._speculator.remaining > 0 else reason
        )

    def _halt(self, keep_length: int, reason: str) -> None:
        """End the text at this length; the server stops there as well, and verdicts on their way are void."""
        self._turn += 1
        self._uplink.append(keep_length, [], 0, self._turn)
        self._speculator.extend([], keep_length, 0)
        if self._drafter is not None:
            self._drafter.truncate(keep_length)
        self.finish_reason = reason

    def _begin_turn(self, tokens: list[int], max_new_tokens: int) -> None:
        start = len(self._speculator.text)
        if start + len(tokens) >= self.target.context_length:
            raise EdgespecError(
                f"the prompt makes the text {start + len(tokens)} tokens long, and the target's context holds "
                f"{self.target.context_length}: shorten the prompt."
            )
        self._turn += 1
        self._tuning.begin()
        self._earlier_s = self.statistics.seconds
        self._turn_began_s = time.monotonic()
        self._turn_start = start + len(tokens)
        self._speculator.extend(tokens, start, max_new_tokens)
        self._output = OutputBuffer(self.tokenizer, self.params.stop, self._speculator.text)
        if self._drafter is not None:
            self._drafter.truncate(start)
        self.finish_reason = None

    def _step(self, tokens: list[int], text: str, logprobs: list[float]) -> Step:
        statistics = self.statistics
        statistics.seconds = self._earlier_s + time.monotonic() - self._turn_began_s
        statistics.take(self._speculator.tally)
        statistics.bytes_up, statistics.bytes_down = self._uplink.bytes_up, self._uplink.bytes_down
        statistics.rtt_ms, statistics.hedged = self._uplink.rtt_ms, self._uplink.hedged
        statistics.link_losses = self._uplink.losses
        if self._pace is not None:
            statistics.draft_overruns = self._pace.overruns
        if self.finished:
            self._offline.drop()
        provisional, revised = self._offline.take()
        events = self._uplink.take_notes()
        kept = logprobs if self.params.logprobs else None
        return Step(tokens, text, kept, self.finish_reason, replace(statistics), provisional, revised, events)

    # The link

    def _go_offline(self) -> None:
        """The draft's cache goes on with provisional text in the tree's place."""
        most = min(self._speculator.remaining, self.target.context_length - len(self._speculator.text))
        ends = () if self.params.ignore_eos else self.target.end_tokens.tolist()
        self._offline.begin(self._output.stream, most, ends)
        self._start_tree_anew()

    def _come_back(self) -> None:
        self._offline.end()
        self._start_tree_anew()

    def _start_tree_anew(self) -> None:
        """Nothing behind the committed text is left, and the draft runs on its last token again."""
        length = len(self._speculator.text)
        self._speculator.extend([], length, self._speculator.remaining)
        if self._drafter is not None:
            self._drafter.truncate(length - 1)

    def _send_block(self) -> None:
        now_s = time.monotonic()
        block = self._speculator.outgoing(self.measurements.slack_ms(now_s * 1e3))
        held_ms = self._speculator.held_ms
        self._held_until_s = now_s + held_ms / 1e3 if held_ms else None
        if block is not None:
            self._uplink.block(block)
            self._recorder.sent(now_s, len(block.tokens))

    def _opening(self) -> bytes:
        """An OPEN that tells a server everything: the text so far is its prompt, and the next tokens are the same."""
        assert self.params.seed is not None
        self._turn = 0
        self._tuning.open()
        self._earlier_forwards = self.statistics.target_forwards
        self._speculator.forgotten()
        text, remaining = self._speculator.text, self._speculator.remaining
        return encoded_open(
            self.params, self.params.seed, self.policy.options, text, remaining, self._latency_ms
        )
