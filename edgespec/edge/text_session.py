"""What `Session` and `DeviceSession` share: one text, turn by turn, and what its caller sees of it."""

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import NamedTuple, TypeVar

from edgespec.core.errors import EdgespecError
from edgespec.core.pacing import DraftPacing
from edgespec.core.params import SamplingParams
from edgespec.core.picture_section import SentPicture
from edgespec.core.pictures import PictureFormat, cut_picture
from edgespec.core.text_biases import TextBiases
from edgespec.core.text_stream import TextPiece, TextStream
from edgespec.core.tokenizer import Tokenizer
from edgespec.drafting.drafter import Drafter
from edgespec.drafting.loop import DraftingLoop
from edgespec.edge.draft_guide import draft_guide
from edgespec.edge.prompt import Prompt, PromptReader, check_pictures
from edgespec.edge.step import Statistics, Step
from edgespec.edge.trace import Event, Timeline
from edgespec.engines.draft_engine import DraftEngine

Self = TypeVar("Self", bound="Closing")

NO_PROMPT = "the session has no prompt yet: call prompt() first."


class Context(NamedTuple):
    """What limits a text: tokens that it may have, ids that they may have, and whose limits these are."""

    length: int
    vocabulary_size: int
    owner: str


class OutputBuffer:
    """The text of one turn behind `context`. Stop strings end it. Log-probabilities are kept where they come."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str], context: Sequence[int]) -> None:
        self.stream = TextStream(tokenizer.decode, stop, context, tokenizer.special_texts)
        self._pieces: list[str] = []
        self._tokens: list[int] = []
        self._logprobs: list[float] = []
        self._top_logprobs: list[dict[int, float]] = []
        self._new = 0

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def fresh(self) -> bool:
        """Whether there are tokens that the caller has not been given."""
        return bool(self._tokens)

    def add(
        self, tokens: list[int], logprobs: list[float], top_logprobs: list[dict[int, float]]
    ) -> TextPiece:
        """Tokens were committed, with log-probabilities for all or none of them; the text that became certain."""
        piece = self.stream.push(tokens)
        self._tokens += tokens[: piece.tokens_used]
        self._logprobs += logprobs[: piece.tokens_used]
        self._top_logprobs += top_logprobs[: piece.tokens_used]
        self._append(piece.text)
        return piece

    def flush(self) -> None:
        """The text ends here: nothing is held back any longer."""
        self._append(self.stream.flush())

    def take(self) -> tuple[list[int], str, list[float], list[dict[int, float]]]:
        """Tokens, text, log-probabilities and the likeliest tokens' since the last time."""
        taken = self._tokens, "".join(self._pieces[self._new :]), self._logprobs, self._top_logprobs
        self._tokens, self._logprobs, self._top_logprobs, self._new = [], [], [], len(self._pieces)
        return taken

    def _append(self, text: str) -> None:
        if text:
            self._pieces.append(text)


class Closing:
    """What `with` closes."""

    def close(self) -> None:
        """End it."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()


class TextSession(Closing, ABC):
    """A subclass says where tokens come from: `step` waits for them.

    engine: the draft; None: there is none. pacing: holds every run of it to a given time, for experiments. trace: a
    list that takes the timeline's events.

    prompt_tokens: the prompt, as tokens. pictures: those in the text. picture_format: how they are taken; None: never.
    finish_reason: see `Step`. statistics: what was counted so far.
    """

    picture_format: PictureFormat | None = None

    def __init__(
        self,
        loop: DraftingLoop,
        engine: DraftEngine | None,
        tokenizer: Tokenizer,
        params: SamplingParams,
        context: Context,
        pacing: DraftPacing | None,
        trace: list[Event] | None,
    ) -> None:
        params = _with_bad_words(params, tokenizer)
        self.params = params if params.seed is not None else replace(params, seed=secrets.randbits(64))
        self.policy = loop.policy
        self.measurements = loop.measurements
        self.tokenizer = tokenizer
        self.statistics = loop.counts = Statistics()
        self.finish_reason: str | None = None
        self.prompt_tokens: list[int] = []
        self.pictures: list[SentPicture] = []
        self.trace = trace
        self._loop = loop
        self._context = context
        self._engine = engine
        self._pacing = pacing
        self._drafter: Drafter | None = None
        self._timeline = None if trace is None else Timeline(trace)
        self._output = OutputBuffer(tokenizer, self.params.stop, ())
        self._earlier_s = self._turn_start_s = 0.0

    # A text's life

    def prompt(self, prompt: Prompt) -> None:
        """Begin a text. prompt: a text; token ids; a list of texts and pictures; or a chat's messages, rendered by the
        chat template. A picture is a uint8 array [H, W, 3], a PIL image, the bytes or the path of a PNG or JPEG, or an
        `edgespec.Picture`. Raises EdgespecError when the prompt is empty or too long, or the target reads no pictures.
        """
        if self._loop.text:
            raise EdgespecError(
                "this session has its prompt already: use append() for a next turn, or a new session."
            )
        assert self.params.seed is not None
        read = self._reader.read(prompt, True, 0)
        tokens = read.tokens
        check_pictures(read.pictures, self.picture_format)
        self.pictures = read.pictures
        if self._engine is not None:
            temperature, vocabulary_size = self.params.temperature, self._context.vocabulary_size
            self._drafter = Drafter(
                self._engine,
                temperature,
                self.params.seed,
                vocabulary_size,
                self._pacing,
                draft_guide(self.params.guide, self.tokenizer, vocabulary_size),
                TextBiases(self.params, self.params.ends(self.tokenizer.end_tokens)),
            )
        self._begin_turn(tokens, 0, self.params.max_new_tokens)
        self.prompt_tokens = tokens

    def append(self, text: Prompt, max_new_tokens: int | None = None, keep_length: int | None = None) -> None:
        """The next turn: this goes behind the text so far, which is not read again by draft or target.

        text: as in `prompt`. max_new_tokens: of this turn; None: as `params` say. keep_length: tokens of the text to
        keep (at least one, and no part of a picture), the rest is forgotten; None: all.
        """
        if not self.finished:
            raise EdgespecError("the text is not finished: append() waits for that, or cancel() first.")
        kept = len(self._loop.text) if keep_length is None else keep_length
        if not 0 < kept <= len(self._loop.text):
            raise EdgespecError(f"cannot keep {kept} of the text's {len(self._loop.text)} tokens.")
        if (cut := cut_picture([picture.span for picture in self.pictures], kept)) is not None:
            raise EdgespecError(
                f"the first {kept} tokens end within a picture: keep {cut.first_row} or {cut.end} of them."
            )
        read = self._reader.read(text, False, kept)
        tokens, earlier = read.tokens, [one for one in self.pictures if one.span.end <= kept]
        check_pictures([*earlier, *read.pictures], self.picture_format)
        self.pictures = [*earlier, *read.pictures]
        most = self.params.max_new_tokens if max_new_tokens is None else max_new_tokens
        self._begin_turn(tokens, kept, most)

    def cancel(self) -> None:
        """Stop here; what is committed stays, and append() may go on from it."""
        if self.prompt_tokens and not self.finished:
            self._stop(len(self._loop.text), "cancelled")

    @abstractmethod
    def step(self, timeout_s: float | None = None) -> Step:
        """Work until something is committed, or `timeout_s` has passed: the step then brings no tokens."""

    @property
    def _reader(self) -> PromptReader:
        return PromptReader(self.tokenizer, self.picture_format, self._context.vocabulary_size)

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    @property
    def all_tokens(self) -> list[int]:
        """Every token of the text: prompts, appended turns and what was generated."""
        return list(self._loop.text)

    @property
    def tokens(self) -> list[int]:
        """The tokens generated in this turn."""
        return self._loop.text[self._loop.turn_start :]

    @property
    def text(self) -> str:
        """The text generated in this turn."""
        return self._output.text

    def __iter__(self) -> Iterator[Step]:
        while not self.finished:
            yield self.step()

    # What subclasses build on

    def snapshot(self) -> Step:
        """A step of what was not handed out yet."""
        tokens, text, logprobs, top = self._output.take()
        statistics = self.statistics
        statistics.seconds = self._earlier_s + time.monotonic() - self._turn_start_s
        statistics.draft_overruns = 0 if self._pacing is None else self._pacing.overruns
        return Step(
            tokens,
            text,
            logprobs if self.params.logprobs else None,
            self.finish_reason,
            replace(statistics),
            top_logprobs=top if self.params.top_logprobs else None,
        )

    def _begin_turn(self, tokens: Sequence[int], start: int, max_new_tokens: int) -> None:
        """Put `tokens` behind `start` tokens of the text; at most `max_new_tokens` may follow."""
        context = self._context
        if start + len(tokens) >= context.length:
            raise EdgespecError(
                f"the prompt makes the text {start + len(tokens)} tokens long, and the {context.owner}'s context holds "
                f"{context.length}: shorten the prompt."
            )
        self._earlier_s, self._turn_start_s = self.statistics.seconds, time.monotonic()
        self._loop.begin(tokens, start, max_new_tokens)
        self._output = OutputBuffer(self.tokenizer, self.params.stop, self._loop.text)
        if self._drafter is not None:
            pictures = self.pictures
            self._drafter.pictures.take([one.span for one in pictures], [one.file for one in pictures])
            self._drafter.truncate(start)
        self.finish_reason = None

    def _commit(
        self,
        tokens: list[int],
        finish: str | None,
        logprobs: list[float] | None = None,
        top_logprobs: list[dict[int, float]] | None = None,
    ) -> None:
        """These tokens are in the loop's text now; they may end it, or hold a stop string that does."""
        if self.statistics.ttft_ms is None:
            self.statistics.ttft_ms = (time.monotonic() - self._turn_start_s) * 1e3
        piece = self._output.add(tokens, logprobs or [], top_logprobs or [])
        self.statistics.committed += piece.tokens_used
        if piece.stopped is not None:
            self._stop(len(self._loop.text) - len(tokens) + piece.tokens_used, "stop")
        elif finish is not None:
            self._output.flush()
            full = len(self._loop.text) >= self._context.length and self._loop.remaining > 0
            self.finish_reason = "context" if finish == "length" and full else finish

    def _stop(self, keep_length: int, reason: str) -> None:
        """End the text at this length."""
        self._loop.begin([], keep_length, 0)
        if self._drafter is not None:
            self._drafter.truncate(keep_length)
        self.finish_reason = reason


def _with_bad_words(params: SamplingParams, tokenizer: Tokenizer) -> SamplingParams:
    """The params with the tokens of their bad words, as they are written inside a text and behind a space."""
    if not params.bad_words:
        return params
    written = [tokenizer.encode(form, False) for word in params.bad_words for form in (word, f" {word}")]
    found = dict.fromkeys((*params.bad_words_ids, *(tuple(ids) for ids in written if ids)))
    return replace(params, bad_words_ids=tuple(found))
