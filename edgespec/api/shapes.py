"""What answers to chats and to plain completions have in common: the envelope, the choices, log-probabilities."""

import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgespec.api.door import TextStep
from edgespec.api.tally import Tally
from edgespec.core.tokenizer import Tokenizer
from edgespec.edge.step import Step

FINISH_REASONS = {"stop": "stop", "length": "length", "context": "length"}


@dataclass
class Envelope:
    """One request's answer: what each object of it repeats."""

    prefix: str
    kind: str
    model: str
    id: str = field(init=False)
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.id = f"{self.prefix}-{secrets.token_hex(12)}"

    def wrap(self, choices: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
        head = {"id": self.id, "object": self.kind, "created": self.created, "model": self.model}
        return {**head, "choices": list(choices), **more}


@dataclass
class Written:
    """One finished text."""

    pieces: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] | None = None
    top_logprobs: list[dict[int, float]] | None = None
    finish_reason: str | None = None

    def add(self, text: TextStep) -> None:
        step = text.step
        self.pieces.append(step.text)
        self.tokens += step.tokens
        if step.logprobs is not None:
            self.logprobs = [*(self.logprobs or ()), *step.logprobs]
        if step.top_logprobs is not None:
            self.top_logprobs = [*(self.top_logprobs or ()), *step.top_logprobs]
        self.finish_reason = finish_reason(text)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


async def gathered(
    texts: AsyncIterator[TextStep], tally: Tally, before: Callable[[int], str] = lambda index: ""
) -> dict[int, Written]:
    """Every text in full, by its index; `before` says what stands before a text's own."""
    written: dict[int, Written] = {}
    async for text in texts:
        tally.add(text)
        if text.index not in written:
            written[text.index] = Written([before(text.index)])
        written[text.index].add(text)
    return written


def finish_reason(text: TextStep) -> str | None:
    reason = text.step.finish_reason
    return None if reason is None else FINISH_REASONS[reason]


def closing(tally: Tally) -> dict[str, Any]:
    """What the last object of an answer brings."""
    return {"usage": tally.usage(), "metrics": tally.metrics()}


def extra(tokenizer: Tokenizer, text: TextStep, offline: bool, timeline: bool) -> dict[str, Any]:
    """A piece's `edgespec` field, for clients that asked for it.

    provisional: text of the draft alone that was added; standing: all of it behind the committed text; revised:
    tokens that were taken back. spans: characters of the content, each with where its token came from. events: of
    the timeline, in milliseconds of the device's clock.
    """
    step, found = text.step, {}
    if offline and (step.provisional or step.revised or step.events):
        found = {
            "provisional": step.provisional,
            "standing": text.opened.session.provisional,
            "revised": step.revised,
            "notes": step.events,
        }
    if timeline:
        found["tokens"] = len(step.tokens)
        found["spans"] = spans(tokenizer, text)
        found["rtt_ms"] = step.statistics.rtt_ms
        found["forward_ms"] = text.opened.session.measurements.forward_ms(1)
        found["notes"] = step.events
        found["events"] = [
            {
                "lane": one.lane,
                "kind": one.kind,
                "start_ms": round(one.start_s * 1e3, 2),
                "end_ms": round(one.end_s * 1e3, 2),
                **one.detail,
            }
            for one in text.events
        ]
    return {"edgespec": found} if found else {}


def spans(tokenizer: Tokenizer, text: TextStep) -> list[tuple[int, str]]:
    """The text cut at its tokens. Where it was held back in between, all of it counts as its last token's."""
    sources = [
        str(source)
        for event in text.events
        if event.kind == "verdict" and isinstance(found := event.detail["sources"], list)
        for source in found
    ]
    pieces = [tokenizer.decode([token]) for token in text.step.tokens]
    if "".join(pieces) != text.step.text:
        return [(len(text.step.text), sources[-1] if sources else "target")]
    return [(len(piece), source) for piece, source in zip(pieces, sources, strict=False)]


def token_logprobs(tokenizer: Tokenizer, piece: Step | Written) -> list[dict[str, Any]] | None:
    """OpenAI's log-probabilities of a piece's tokens, each with the likeliest at its position; None: not asked for."""
    if piece.logprobs is None:
        return None

    def named(token: int, logprob: float) -> dict[str, Any]:
        text = tokenizer.decode([token])
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    return [
        {**named(token, logprob), "top_logprobs": [named(*pair) for pair in top.items()]}
        for token, logprob, top in zip(piece.tokens, piece.logprobs, _tops(piece), strict=True)
    ]


def chat_logprobs(tokenizer: Tokenizer, piece: Step | Written) -> dict[str, Any] | None:
    """OpenAI's `logprobs` of a chat's piece."""
    content = token_logprobs(tokenizer, piece)
    return None if content is None else {"content": content, "refusal": None}


def completion_logprobs(tokenizer: Tokenizer, piece: Step | Written, offset: int) -> dict[str, Any] | None:
    """OpenAI's older `logprobs` of a completion; offset: characters before these tokens. The likeliest tokens have the
    token itself among them, so there may be one more than were asked for."""
    if piece.logprobs is None:
        return None
    texts, offsets = [tokenizer.decode([token]) for token in piece.tokens], []
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    tops = [
        {**{tokenizer.decode([other]): value for other, value in top.items()}, text: logprob}
        for text, logprob, top in zip(texts, piece.logprobs, _tops(piece), strict=True)
    ]
    return {
        "tokens": texts,
        "token_logprobs": list(piece.logprobs),
        "top_logprobs": None if piece.top_logprobs is None else tops,
        "text_offset": offsets,
    }


def _tops(piece: Step | Written) -> Sequence[dict[int, float]]:
    return [{}] * len(piece.tokens) if piece.top_logprobs is None else piece.top_logprobs
