"""POST /v1/chat/completions: messages through the model's chat template, the answer whole or streamed."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from edgespec.api.answer import DONE, encode, event
from edgespec.api.ask import Ask
from edgespec.api.door import Door, TextStep
from edgespec.api.errors import refused
from edgespec.api.prompt_text import check_length, encoded
from edgespec.api.sampling import asks
from edgespec.api.schema import ChatRequest, ImagePart, Message, TextPart, Tool
from edgespec.api.shapes import Envelope, Written, chat_logprobs, closing, extra, finish_reason, gathered
from edgespec.api.tally import Tally
from edgespec.api.tool_calls import ToolCall, ToolCallParser, family_of
from edgespec.api.tool_choice import tools_guide
from edgespec.core.errors import EdgespecError
from edgespec.edge.prompt import Chat, data_url


def chat_asks(door: Door, request: ChatRequest, param: str = "messages") -> list[Ask]:
    """param: what holds the conversation in the client's request. Raises ApiError."""
    most = request.max_completion_tokens or request.max_tokens or door.limits.default_tokens
    parser = tool_parser(door, request)
    tools = request.tools if parser else None
    calls = tools_guide(None if parser is None else parser.family, request)
    chat = _with_pictures(door, request.messages, tools, param)
    prompt = [] if chat else chat_prompt(door, request.messages, tools, param)
    if request.top_logprobs and not request.logprobs:
        raise refused("top_logprobs", "this needs logprobs: true.")
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    return asks(door, request, [prompt], param, most, logprobs, chat, calls)


def _with_pictures(
    door: Door, messages: Sequence[Message], tools: Sequence[Tool] | None, param: str
) -> Chat | None:
    """None: the messages hold no pictures. Raises ApiError."""
    if not any(message.images for message in messages):
        return None
    check_length(door, sum(len(message.text) for message in messages), param)
    parted = []
    for number, message in enumerate(messages):
        plain = _plain(param, number, message)
        if message.images:
            assert isinstance(message.content, list)
            plain["content"] = [
                {"type": "text", "text": part.text}
                if isinstance(part, TextPart)
                else {
                    "type": "image",
                    "image": _picture(_place(param, number, f".content[{at}].image_url.url"), part),
                }
                for at, part in enumerate(message.content)
            ]
        parted.append(plain)
    return Chat(parted, _described(tools))


def _place(param: str, number: int, within: str) -> str:
    """What is wrong in a message. Where the client sent no list of messages, the parameter's name must do."""
    return f"messages[{number}]{within}" if param == "messages" else param


def _picture(param: str, part: ImagePart) -> bytes:
    try:
        return data_url(part.image_url.url)
    except EdgespecError as error:
        raise refused(param, str(error)) from None


def _described(tools: Sequence[Tool] | None) -> list[dict[str, Any]] | None:
    without = {"function": {"strict"}}
    return [tool.model_dump(exclude_none=True, exclude=without) for tool in tools] if tools else None


def chat_prompt(
    door: Door, messages: Sequence[Message], tools: Sequence[Tool] | None, param: str
) -> list[int]:
    """The conversation's tokens. Raises ApiError."""
    plain = [_plain(param, number, message) for number, message in enumerate(messages)]
    tokenizer = door.source.tokenizer
    try:
        text = tokenizer.chat(plain, tools=_described(tools))
    except EdgespecError as error:
        raise refused(param, str(error)) from None
    return encoded(door, text, param, add_special_tokens=False)


def _plain(param: str, number: int, message: Message) -> dict[str, Any]:
    """A message as templates take it; a call's arguments as an object."""
    for name, value in (message.model_extra or {}).items():
        if value not in (None, []):
            raise refused(_place(param, number, f".{name}"), "this is not offered: leave it out.")
    role = "system" if message.role == "developer" else message.role
    plain: dict[str, Any] = {"role": role, "content": message.text}
    if message.name is not None:
        plain["name"] = message.name
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        plain["tool_calls"] = [call.model_dump() for call in message.tool_calls]
        for index, call in enumerate(plain["tool_calls"]):
            try:
                call["function"]["arguments"] = json.loads(call["function"]["arguments"])
            except (ValueError, RecursionError):
                place = _place(param, number, f".tool_calls[{index}].function.arguments")
                raise refused(place, "this is not JSON.") from None
    return plain


def tool_parser(door: Door, request: ChatRequest) -> ToolCallParser | None:
    """For one text; None: the request offers no tools. Raises ApiError where the model cannot use any."""
    if not request.tools or request.tool_choice == "none":
        return None
    family = family_of(door.source.tokenizer.chat_template or "")
    if family is None:
        raise refused("tools", "this model's chat template knows no tools: leave them out.")
    return ToolCallParser(family)


async def whole_chat(
    door: Door, request: ChatRequest, texts: AsyncIterator[TextStep]
) -> AsyncGenerator[bytes, None]:
    """The answer as one object."""
    envelope, tally = Envelope("chatcmpl", "chat.completion", door.model), Tally(request.n or 1)
    written = await gathered(texts, tally)
    choices = [_choice(door, request, index, one) for index, one in written.items()]
    yield encode(envelope.wrap(choices, **closing(tally))).encode()


def _choice(door: Door, request: ChatRequest, index: int, written: Written) -> dict[str, Any]:
    content, calls, parser = written.text, list[ToolCall](), tool_parser(door, request)
    if parser is not None:
        (first, _), (rest, _) = parser.push(content), parser.finish()
        content, calls = first + rest, parser.calls
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if calls:
        message |= {"content": content or None, "tool_calls": [_call(call) for call in calls]}
    return {
        "index": index,
        "message": message,
        "logprobs": chat_logprobs(door.source.tokenizer, written),
        "finish_reason": "tool_calls" if calls and written.finish_reason == "stop" else written.finish_reason,
    }


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


async def streamed_chat(
    door: Door, request: ChatRequest, texts: AsyncIterator[TextStep]
) -> AsyncGenerator[bytes, None]:
    """The answer as events: content is committed text only."""
    envelope, tally = Envelope("chatcmpl", "chat.completion.chunk", door.model), Tally(request.n or 1)
    usage = request.stream_options is not None and request.stream_options.include_usage
    between = {"usage": None} if usage else {}
    options, tokenizer = request.edgespec, door.source.tokenizer
    deltas: dict[int, Deltas] = {}
    async for text in texts:
        step = text.step
        one = deltas.setdefault(text.index, Deltas(tool_parser(door, request)))
        delta, finish = one.add(text)
        more = extra(tokenizer, text, options.offline, options.timeline)
        # Else it is half a character, or the beginning of what may be a stop string or a call.
        if delta or finish or more or step.logprobs:
            logprobs = chat_logprobs(tokenizer, step)
            choice = {"index": text.index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
            yield event(envelope.wrap([choice], **between, **more))
        tally.add(text)
    if usage:
        yield event(envelope.wrap([], **closing(tally)))
    yield DONE


class Deltas:
    """One text's steps as the changes of a message."""

    def __init__(self, parser: ToolCallParser | None) -> None:
        self._parser = parser
        self._begun = False

    def add(self, text: TextStep) -> tuple[dict[str, Any], str | None]:
        """What the step adds, and why the text ends, if it does."""
        content, finish, calls = text.step.text, finish_reason(text), list[ToolCall]()
        number = 0
        if self._parser is not None:
            number = len(self._parser.calls)
            content, calls = self._parser.push(content)
            if finish is not None:
                rest, late = self._parser.finish()
                content, calls = content + rest, [*calls, *late]
            if finish == "stop" and self._parser.calls:
                finish = "tool_calls"
        delta: dict[str, Any] = {} if self._begun else {"role": "assistant", "content": ""}
        self._begun = True
        if content:
            delta["content"] = content
        if calls:
            delta["tool_calls"] = [{"index": number + at, **_call(call)} for at, call in enumerate(calls)]
        return delta, finish
