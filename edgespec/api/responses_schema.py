"""The requests of /v1/responses, and what they ask for as a chat."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgespec.api.errors import refused
from edgespec.api.schema import (
    ChatRequest,
    EdgespecOptions,
    Function,
    FunctionCall,
    ImagePart,
    ImageUrl,
    Message,
    Model,
    TextPart,
    Tool,
    ToolCall,
    TopLogprobs,
)

NEUTRAL: dict[str, tuple[object, ...]] = {
    "store": (None, False),
    "previous_response_id": (None,),
    "conversation": (None,),
    "background": (None, False),
    "metadata": (None, {}),
    "prompt": (None,),
    "reasoning": (None, {}),
    "service_tier": (None, "auto", "default"),
    "truncation": (None, "disabled"),
}
"""Known parameters that are not offered -> the values that ask for nothing."""


class Part(BaseModel):
    type: Literal["input_text", "output_text"]
    text: str

    def part(self) -> TextPart:
        return TextPart(type="text", text=self.text)


class InputImage(Model):
    type: Literal["input_image"]
    image_url: str = Field(description="A data: URL; no other is fetched.")
    detail: Literal["auto", "low", "high"] | None = None
    file_id: None = None

    def part(self) -> ImagePart:
        return ImagePart(type="image_url", image_url=ImageUrl(url=self.image_url, detail=self.detail))


class InputMessage(BaseModel):
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part | InputImage]

    def message(self) -> Message:
        content = self.content
        if isinstance(content, str):
            return Message(role=self.role, content=content)
        return Message(role=self.role, content=[part.part() for part in content])


class CallItem(BaseModel):
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str

    def message(self) -> Message:
        call = ToolCall(id=self.call_id, function=FunctionCall(name=self.name, arguments=self.arguments))
        return Message(role="assistant", tool_calls=[call])


class CallOutputItem(BaseModel):
    type: Literal["function_call_output"]
    call_id: str
    output: str

    def message(self) -> Message:
        return Message(role="tool", content=self.output, tool_call_id=self.call_id)


class FlatTool(Function):
    """A function, as this API describes it."""

    type: Literal["function"]


Items = Annotated[list[InputMessage | CallItem | CallOutputItem], Field(min_length=1, max_length=4096)]


class FlatNamedTool(BaseModel):
    """The tool that an answer must call."""

    type: Literal["function"]
    name: str

    def nested(self) -> dict[str, Any]:
        """As chat completions have it."""
        return {"type": self.type, "function": {"name": self.name}}


class TextOptions(Model):
    """The form of an answer's text."""

    format: dict[str, Any] | None = Field(None, description="text, json_object or json_schema.")
    verbosity: Literal["medium"] | None = None

    def response_format(self) -> dict[str, Any] | None:
        """As chat completions have it: the schema is a level deeper."""
        if self.format is None or self.format.get("type") != "json_schema":
            return self.format
        schema = {name: value for name, value in self.format.items() if name != "type"}
        return {"type": "json_schema", "json_schema": schema}


class ResponsesRequest(BaseModel):
    """POST /v1/responses. Nothing is stored: the whole conversation comes with each request."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: str | None = Field(None, max_length=512)
    input: str | Items
    instructions: str | None = None
    stream: bool | None = False
    max_output_tokens: int | None = Field(None, ge=1, lt=2**31)
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, gt=0, le=1)
    text: TextOptions | None = None
    tools: Annotated[list[FlatTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | FlatNamedTool | None = None
    parallel_tool_calls: bool | None = None
    include: Annotated[list[Literal["message.output_text.logprobs"]], Field(max_length=16)] | None = None
    top_logprobs: TopLogprobs | None = None
    user: str | None = Field(None, max_length=512)
    edgespec: EdgespecOptions = EdgespecOptions.model_validate({})

    def check_offered(self) -> None:
        """Raises ApiError for a parameter that is neither offered nor neutral."""
        for name, value in (self.model_extra or {}).items():
            if name not in NEUTRAL:
                raise refused(name, "there is no such parameter.")
            if value not in NEUTRAL[name]:
                raise refused(name, "this is not offered: leave it out.")
        if self.top_logprobs and not self.include:
            raise refused("top_logprobs", 'this needs include: ["message.output_text.logprobs"].')

    def chat(self) -> ChatRequest:
        """The same as a chat."""
        messages = [] if self.instructions is None else [Message(role="system", content=self.instructions)]
        if isinstance(self.input, str):
            messages.append(Message(role="user", content=self.input))
        else:
            messages += [item.message() for item in self.input]
        tools = [Tool(type="function", function=Function(**_function(tool))) for tool in self.tools or ()]
        choice = (
            self.tool_choice.nested() if isinstance(self.tool_choice, FlatNamedTool) else self.tool_choice
        )
        return ChatRequest.model_validate(
            {
                "messages": messages,
                "max_completion_tokens": self.max_output_tokens,
                "temperature": self.temperature,
                "top_p": self.top_p,
                "response_format": None if self.text is None else self.text.response_format(),
                "logprobs": bool(self.include),
                "top_logprobs": self.top_logprobs,
                "tools": tools or None,
                "tool_choice": choice,
                "parallel_tool_calls": self.parallel_tool_calls,
                "edgespec": self.edgespec,
            }
        )


def _function(tool: FlatTool) -> dict[str, Any]:
    return tool.model_dump(exclude={"type"})
