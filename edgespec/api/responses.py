"""POST /v1/responses: a chat's text as output items, whole or as typed events."""

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from itertools import count
from typing import Any

from edgespec.api.answer import encode, event
from edgespec.api.ask import Ask
from edgespec.api.chat import chat_asks, tool_parser
from edgespec.api.door import Door, TextStep
from edgespec.api.errors import ApiError, refused
from edgespec.api.responses_schema import ResponsesRequest
from edgespec.api.shapes import finish_reason, token_logprobs
from edgespec.api.tally import Tally
from edgespec.api.tool_calls import ToolCall


def response_asks(door: Door, request: ResponsesRequest) -> list[Ask]:
    """Raises ApiError."""
    try:
        return chat_asks(door, request.chat(), "input")
    except ApiError as error:
        if error.param != "response_format":
            raise
        raise refused("text.format", str(error).removeprefix("response_format: ")) from None


async def whole_response(
    door: Door, request: ResponsesRequest, texts: AsyncIterator[TextStep]
) -> AsyncGenerator[bytes, None]:
    """The answer as one object."""
    written = _Response(door, request)
    async for text in texts:
        written.add(text)
    yield encode(written.finished()).encode()


async def streamed_response(
    door: Door, request: ResponsesRequest, texts: AsyncIterator[TextStep]
) -> AsyncGenerator[bytes, None]:
    """The answer as events, numbered in order."""
    written, numbers = _Response(door, request), count()

    def typed(kind: str, **content: Any) -> bytes:
        return event({"type": kind, "sequence_number": next(numbers), **content}, kind)

    place: dict[str, Any] = {"item_id": written.item, "output_index": 0, "content_index": 0}
    begun = False
    async for text in texts:
        if not begun:
            yield typed("response.created", response=written.envelope("in_progress", []))
            yield typed("response.in_progress", response=written.envelope("in_progress", []))
        begun = True
        first = not written.text
        content, logprobs = written.add(text)
        if content and first:
            yield typed("response.output_item.added", output_index=0, item=written.message("in_progress", []))
            yield typed("response.content_part.added", **place, part=_part("", []))
        if content:
            yield typed("response.output_text.delta", **place, delta=content, logprobs=logprobs)
    if written.text:
        yield typed("response.output_text.done", **place, text=written.text, logprobs=written.logprobs)
        yield typed("response.content_part.done", **place, part=_part(written.text, written.logprobs))
        yield typed("response.output_item.done", output_index=0, item=written.output()[0])
    for index, item in enumerate(written.output()):
        if item["type"] != "function_call":
            continue
        where = {"item_id": item["id"], "output_index": index}
        added = {**item, "arguments": "", "status": "in_progress"}
        yield typed("response.output_item.added", output_index=index, item=added)
        yield typed("response.function_call_arguments.delta", **where, delta=item["arguments"])
        yield typed(
            "response.function_call_arguments.done", **where, name=item["name"], arguments=item["arguments"]
        )
        yield typed("response.output_item.done", output_index=index, item=item)
    response = written.finished()
    yield typed(f"response.{response['status']}", response=response)


class _Response:
    """One answer while it is written. text: without the calls of tools. logprobs: of its tokens, if asked for."""

    def __init__(self, door: Door, request: ResponsesRequest) -> None:
        self.item = f"msg_{secrets.token_hex(12)}"
        self.text = ""
        self.logprobs: list[dict[str, Any]] = []
        self._new_logprobs = 0
        self._door = door
        self._request = request
        self._parser = tool_parser(door, request.chat())
        self._tally = Tally()
        self._finish: str | None = None
        self._head = {
            "id": f"resp_{secrets.token_hex(12)}",
            "object": "response",
            "created_at": int(time.time()),
        }

    def add(self, text: TextStep) -> tuple[str, list[dict[str, Any]]]:
        """Returns the content that the step adds, and the log-probabilities since the last content."""
        self._tally.add(text)
        self.logprobs += token_logprobs(self._door.source.tokenizer, text.step) or []
        content, self._finish = text.step.text, finish_reason(text)
        if self._parser is not None:
            content, _ = self._parser.push(content)
            if self._finish is not None:
                content += self._parser.finish()[0]
        self.text += content
        if not content:
            return "", []
        first, self._new_logprobs = self._new_logprobs, len(self.logprobs)
        return content, self.logprobs[first:]

    def finished(self) -> dict[str, Any]:
        complete, usage = self._finish == "stop", self._tally.usage()
        return {
            **self.envelope("completed" if complete else "incomplete", self.output()),
            "incomplete_details": None if complete else {"reason": "max_output_tokens"},
            "usage": {
                "input_tokens": usage["prompt_tokens"],
                "input_tokens_details": usage["prompt_tokens_details"],
                "output_tokens": usage["completion_tokens"],
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage["total_tokens"],
            },
            "metrics": self._tally.metrics(),
        }

    def output(self) -> list[dict[str, Any]]:
        status = "completed" if self._finish == "stop" else "incomplete"
        calls = self._parser.calls if self._parser is not None else []
        message = [self.message(status, [_part(self.text, self.logprobs)])] if self.text or not calls else []
        return [*message, *map(_call, calls)]

    def message(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self.item, "type": "message", "role": "assistant", "status": status, "content": content}

    def envelope(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        request = self._request
        return {
            **self._head,
            "status": status,
            "model": self._door.model,
            "output": output,
            "error": None,
            "incomplete_details": None,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "metadata": {},
            "parallel_tool_calls": request.parallel_tool_calls is not False,
            "temperature": 1.0 if request.temperature is None else request.temperature,
            "text": {"format": (request.text and request.text.format) or {"type": "text"}},
            "tool_choice": request.model_dump(include={"tool_choice"})["tool_choice"] or "auto",
            "top_logprobs": request.top_logprobs or 0,
            "tools": [tool.model_dump() for tool in request.tools or ()],
            "top_p": 1.0 if request.top_p is None else request.top_p,
            "usage": None,
        }


def _part(text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _call(call: ToolCall) -> dict[str, Any]:
    item = {"id": call.id.replace("call", "fc", 1), "type": "function_call", "status": "completed"}
    return {**item, "call_id": call.id, "name": call.name, "arguments": call.arguments}
