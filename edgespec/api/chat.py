"""POST /v1/chat/completions: messages through the model's chat template, the answer whole or streamed."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from edgespec.api.answer import DONE, encode, event
from edgespec.api.ask import Ask
from edgespec.api.door import Door, TextStep
from edgespec.api.errors import refused
from edgespec.api.sampling import asks
from edgespec.api.schema import ChatRequest, Message
from edgespec.api.shapes import Envelope, Written, chat_logprobs, closing, extra, finish_reason
from edgespec.api.tally import Tally
from edgespec.core.errors import EdgespecError


def chat_asks(door: Door, request: ChatRequest) -> list[Ask]:
    """Raises ApiError."""
    most = request.max_completion_tokens or request.max_tokens or door.limits.default_tokens
    prompt = chat_prompt(door, request.messages)
    return asks(door, request, [prompt], "messages", most, bool(request.logprobs))


def chat_prompt(door: Door, messages: Sequence[Message]) -> list[int]:
    """The conversation's tokens. Raises ApiError."""
    plain = []
    for number, message in enumerate(messages):
        for name, value in (message.model_extra or {}).items():
            if value not in (None, []):
                raise refused(f"messages[{number}].{name}", "this is not offered: leave it out.")
        role = "system" if message.role == "developer" else message.role
        plain.append({"role": role, "content": message.text})
    tokenizer = door.source.tokenizer
    try:
        return tokenizer.encode(tokenizer.chat(plain), add_special_tokens=False)
    except EdgespecError as error:
        raise refused("messages", str(error)) from None


async def whole_chat(
    door: Door, request: ChatRequest, texts: AsyncIterator[TextStep]
) -> AsyncGenerator[bytes, None]:
    """The answer as one object."""
    envelope, tally = Envelope("chatcmpl", "chat.completion", door.model), Tally()
    written: dict[int, Written] = {}
    async for text in texts:
        tally.add(text)
        written.setdefault(text.index, Written()).add(text)
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": one.text, "refusal": None},
            "logprobs": chat_logprobs(
                door.source.tokenizer, one.tokens, one.logprobs if request.logprobs else None
            ),
            "finish_reason": one.finish_reason,
        }
        for index, one in written.items()
    ]
    yield encode(envelope.wrap(choices, **closing(tally))).encode()


async def streamed_chat(
    door: Door, request: ChatRequest, texts: AsyncIterator[TextStep]
) -> AsyncGenerator[bytes, None]:
    """The answer as events: content is committed text only."""
    envelope, tally = Envelope("chatcmpl", "chat.completion.chunk", door.model), Tally()
    usage = request.stream_options is not None and request.stream_options.include_usage
    between = {"usage": None} if usage else {}
    begun: set[int] = set()
    async for text in texts:
        tally.add(text)
        delta: dict[str, Any] = {}
        if text.index not in begun:
            begun.add(text.index)
            delta = {"role": "assistant", "content": ""}
        step, finish = text.step, finish_reason(text)
        more = extra(text, request.edgespec.offline, request.edgespec.timeline)
        if step.text:
            delta["content"] = step.text
        if not (delta or finish or more or step.logprobs):
            continue  # half a character, or the beginning of what may be a stop string
        choice = {
            "index": text.index,
            "delta": delta,
            "logprobs": chat_logprobs(door.source.tokenizer, step.tokens, step.logprobs),
            "finish_reason": finish,
        }
        yield event(envelope.wrap([choice], **between, **more))
    if usage:
        yield event(envelope.wrap([], **closing(tally)))
    yield DONE
