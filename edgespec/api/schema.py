"""The requests that are understood, as pydantic models: OpenAI's parameters, vLLM's extras, and our own `edgespec`.

What a model declares is honoured. Anything else is looked up in `NEUTRAL`: a value there asks for nothing and is
accepted, everything else is refused by name. To offer a parameter, move it from there into a model and let
`sampling.py` pass it on.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgespec.api.errors import refused
from edgespec.core.params import MOST_TOP_LOGPROBS

NEUTRAL: dict[str, tuple[object, ...]] = {
    "functions": (None, []),
    "function_call": (None, "none"),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "reasoning_effort": (None, "none"),
    "verbosity": (None, "medium"),
    "web_search_options": (None,),
    "service_tier": (None, "auto", "default"),
    "store": (None, False),
    "metadata": (None, {}),
    "best_of": (None, 1),
    "suffix": (None, ""),
    "length_penalty": (None, 1, 1.0),
    "use_beam_search": (None, False),
    "skip_special_tokens": (None, True),
    "prompt_logprobs": (None,),
}
"""Known parameters that are not offered -> the values that ask for nothing."""

Token = Annotated[int, Field(ge=0, lt=2**31)]
TopLogprobs = Annotated[int, Field(ge=0, le=MOST_TOP_LOGPROBS, strict=True)]
StopString = Annotated[str, Field(min_length=1, max_length=256)]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class EdgespecOptions(Model):
    """edgespec's own: how the text is drafted. The text is the same in every mode."""

    mode: str | None = None
    objective: Literal["latency", "cost", "energy"] = "latency"
    draft_tokens: int | None = Field(None, ge=1, le=256)
    latency_ms: float | None = Field(None, gt=0, le=1e6)
    offline: bool = Field(False, description="Send provisional text while no server is there.")
    timeline: bool = Field(False, description="Send what edge, link and cloud did, with each piece of text.")


class StreamOptions(Model):
    include_usage: bool = False
    continuous_usage_stats: Literal[False] = False


class SamplingRequest(BaseModel):
    """What chat and plain completions share."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: str | None = Field(None, max_length=512)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1, lt=2**31)
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, lt=2**31)
    min_p: float | None = Field(None, ge=0, lt=1)
    repetition_penalty: float | None = Field(None, gt=0)
    logit_bias: (
        Annotated[dict[Token, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1024)] | None
    ) = None
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    min_tokens: int | None = Field(None, ge=0, lt=2**31)
    stop_token_ids: Annotated[list[Token], Field(max_length=64)] | None = None
    bad_words: Annotated[list[str], Field(max_length=64)] | None = None
    response_format: dict[str, Any] | None = Field(None, description="text, json_object or json_schema.")
    structured_outputs: dict[str, Any] | None = Field(None, description="json, regex, choice, grammar.")
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: Annotated[list[str], Field(min_length=1, max_length=256)] | None = None
    guided_grammar: str | None = None
    ignore_eos: bool | None = False
    n: int | None = Field(1, ge=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**64)
    stop: StopString | Annotated[list[StopString], Field(max_length=16)] | None = None
    user: str | None = Field(None, max_length=512)
    edgespec: EdgespecOptions = EdgespecOptions.model_validate({})

    def check_offered(self) -> None:
        """Raises ApiError for a parameter that is neither offered nor neutral."""
        for name, value in (self.model_extra or {}).items():
            if name not in NEUTRAL:
                raise refused(name, "there is no such parameter.")
            if not any(value == neutral and type(value) is type(neutral) for neutral in NEUTRAL[name]):
                raise refused(name, "this is not offered: leave it out.")
        if self.stream_options is not None and not self.stream:
            raise refused("stream_options", "this needs stream: true.")


class CompletionRequest(SamplingRequest):
    """POST /v1/completions."""

    prompt: (
        str
        | Annotated[list[Token], Field(min_length=1)]
        | Annotated[list[str], Field(min_length=1, max_length=16)]
    )
    echo: bool | None = False
    logprobs: TopLogprobs | None = Field(None, description="0: of the chosen tokens alone.")


class TextPart(Model):
    type: Literal["text", "input_text", "output_text"]
    text: str


class FunctionCall(BaseModel):
    name: str
    arguments: str


class ToolCall(BaseModel):
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class ImageUrl(Model):
    url: str = Field(description="A data: URL; no other is fetched.")
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Model):
    type: Literal["image_url"]
    image_url: ImageUrl


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart | ImagePart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        content = self.content or ""
        if isinstance(content, str):
            return content
        return "\n".join(part.text for part in content if isinstance(part, TextPart))

    @property
    def images(self) -> list[str]:
        """The URLs of its pictures."""
        parts = self.content if isinstance(self.content, list) else []
        return [part.image_url.url for part in parts if isinstance(part, ImagePart)]


class Function(Model):
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Model):
    type: Literal["function"]
    function: Function


class FunctionName(Model):
    name: str


class NamedTool(Model):
    """The tool that an answer must call."""

    type: Literal["function"]
    function: FunctionName


class ChatRequest(SamplingRequest):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)]
    max_completion_tokens: int | None = Field(None, ge=1, lt=2**31)
    logprobs: bool | None = False
    top_logprobs: TopLogprobs | None = None
    add_generation_prompt: Literal[True] | None = True
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
