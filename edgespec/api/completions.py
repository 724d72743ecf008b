"""POST /v1/completions: plain prompts, each continued, whole or streamed."""

from collections.abc import AsyncGenerator, AsyncIterator

from edgespec.api.answer import DONE, encode, event
from edgespec.api.ask import Ask
from edgespec.api.door import Door, TextStep
from edgespec.api.errors import refused
from edgespec.api.prompt_text import encoded
from edgespec.api.sampling import asks
from edgespec.api.schema import CompletionRequest
from edgespec.api.shapes import Envelope, closing, completion_logprobs, extra, finish_reason, gathered
from edgespec.api.tally import Tally

DEFAULT_TOKENS = 16
"""OpenAI's, of a completion whose request does not say."""


def completion_asks(door: Door, request: CompletionRequest) -> list[Ask]:
    """Raises ApiError."""
    prompt = request.prompt
    if request.echo and request.logprobs is not None:
        raise refused("logprobs", "this is not offered together with echo.")
    texts = [prompt] if isinstance(prompt, str) else prompt
    from_texts = [encoded(door, text, "prompt") for text in texts if isinstance(text, str)]
    tokens = [token for token in texts if isinstance(token, int)]
    prompts = from_texts or [tokens]
    if not all(prompts):
        raise refused("prompt", "it is empty: give at least one character.")
    most = request.max_tokens or DEFAULT_TOKENS
    return asks(door, request, prompts, "prompt", most, request.logprobs)


async def whole_completion(
    door: Door, request: CompletionRequest, texts: AsyncIterator[TextStep]
) -> AsyncGenerator[bytes, None]:
    envelope, tally = Envelope("cmpl", "text_completion", door.model), Tally(request.n or 1)
    written = await gathered(texts, tally, lambda index: _echo(door, request, index))
    choices = [
        {
            "index": index,
            "text": one.text,
            "logprobs": completion_logprobs(door.source.tokenizer, one, 0),
            "finish_reason": one.finish_reason,
        }
        for index, one in written.items()
    ]
    yield encode(envelope.wrap(choices, **closing(tally))).encode()


async def streamed_completion(
    door: Door, request: CompletionRequest, texts: AsyncIterator[TextStep]
) -> AsyncGenerator[bytes, None]:
    envelope, tally = Envelope("cmpl", "text_completion", door.model), Tally(request.n or 1)
    usage = request.stream_options is not None and request.stream_options.include_usage
    between = {"usage": None} if usage else {}
    offsets: dict[int, int] = {}
    async for text in texts:
        step, finish = text.step, finish_reason(text)
        more = extra(door.source.tokenizer, text, request.edgespec.offline, request.edgespec.timeline)
        echo = "" if text.index in offsets else _echo(door, request, text.index)
        offset = offsets.setdefault(text.index, 0)
        offsets[text.index] += len(step.text)
        if step.text or echo or finish or more or step.logprobs:
            choice = {
                "index": text.index,
                "text": echo + step.text,
                "logprobs": completion_logprobs(door.source.tokenizer, step, offset),
                "finish_reason": finish,
            }
            yield event(envelope.wrap([choice], **between, **more))
        tally.add(text)
    if usage:
        yield event(envelope.wrap([], **closing(tally)))
    yield DONE


def _echo(door: Door, request: CompletionRequest, index: int) -> str:
    """The prompt of the text with this index, where it is asked for."""
    if not request.echo:
        return ""
    prompt = request.prompt
    if isinstance(prompt, str):
        return prompt
    one = prompt[index // (request.n or 1)]
    return one if isinstance(one, str) else door.source.tokenizer.decode([int(token) for token in prompt])
