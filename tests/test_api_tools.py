"""Tool calls are found in streamed text however it is cut, and what is none stays text."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
openai = pytest.importorskip("openai")

from api_server import ApiTokenizer, open_api  # noqa: E402
from scripted_models import HashModel  # noqa: E402
from stubs import StubTarget  # noqa: E402

from edgespec.api.tool_calls import Family, ToolCallParser, family_of  # noqa: E402

HERMES = '<tool_call>\n{"name": "move", "arguments": {"metres": 2}}\n</tool_call>'
LLAMA = '{"name": "move", "parameters": {"metres": 2}}'


def parse(family: Family, text: str, size: int) -> tuple[str, list[tuple[str, object]]]:
    parser = ToolCallParser(family)
    pieces = [parser.push(text[start : start + size]) for start in range(0, len(text), size)] + [
        parser.finish()
    ]
    calls = [call for _, calls in pieces for call in calls]
    assert calls == parser.calls and len({call.id for call in calls}) == len(calls)
    return "".join(content for content, _ in pieces), [(one.name, json.loads(one.arguments)) for one in calls]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("family", "text", "content", "count"),
    [
        ("hermes", HERMES, "", 1),
        ("hermes", f"I go.\n{HERMES}\n{HERMES}", "I go.\n", 2),
        ("hermes", "a < b <tool", "a < b <tool", 0),
        ("hermes", "<tool_call>{oops}</tool_call>!", "<tool_call>{oops}</tool_call>!", 0),
        ("hermes", '<tool_call>{"name": "move"', '<tool_call>{"name": "move"', 0),
        ("llama", LLAMA, "", 1),
        ("llama", f"{LLAMA}; {LLAMA}", "", 2),
        ("llama", " Hello {", " Hello {", 0),
        ("llama", '{"name": 5}', '{"name": 5}', 0),
        ("llama", '{"a": 1', '{"a": 1', 0),
    ],
)
def test_calls_are_told_from_text(family: Family, text: str, content: str, count: int, size: int) -> None:
    assert parse(family, text, size) == (content, [("move", {"metres": 2})] * count)


def test_the_template_tells_how_a_model_writes_its_calls() -> None:
    assert family_of("{{ messages }}") is None
    assert family_of("{% if tools %}<tool_call>{% endif %}") == "hermes"
    assert family_of("{% if tools %}parameters{% endif %}") == "llama"


ALPHABET = '<>_/{}":, |01234567\nabcdefghijklmnopqrstuvwxyz'
END = len(ALPHABET)
CALLS = HERMES + "\n" + HERMES.replace("move", "turn")
MOVE = {"type": "function", "function": {"name": "move", "parameters": {"type": "object"}}}


class Caller(HashModel):
    """Answers with two calls where tools were described in the prompt, and with a word elsewhere; then it ends."""

    def target(self, text: Sequence[int]) -> int:
        letters = "".join(ALPHABET[token] for token in text if token < END)
        prompt, _, written = letters.rpartition("|")
        answer = (CALLS if "tool:move" in prompt else "hello")[len(written) :]
        return ALPHABET.index(answer[0]) if answer else END


class CallerTokenizer(ApiTokenizer):
    chat_template = "{% if tools %}<tool_call>{% endif %}"
    end_tokens = (END,)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [ALPHABET.index(letter) for letter in text]

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(ALPHABET[token] for token in tokens if token < END)

    def chat(self, messages: Any, add_generation_prompt: bool = True, tools: Any = None) -> str:
        self.seen = messages
        names = "".join(f"tool:{tool['function']['name']} " for tool in tools or ())
        return names + " ".join(message["content"] for message in messages) + "|"


@pytest.fixture
def client() -> Iterator[Any]:
    target = StubTarget(Caller())
    target.end_tokens = (END,)
    with (
        open_api(target, tokenizer=CallerTokenizer(), scripted=Caller()) as (url, door),
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        client.door = door
        yield client


def ask(client: Any, **more: Any) -> Any:
    messages = more.pop("messages", [{"role": "user", "content": "go"}])
    return client.chat.completions.create(
        model="edgespec", messages=messages, temperature=0, max_tokens=200, **more
    )


def test_a_model_calls_tools_and_reads_their_answers(client: Any) -> None:
    choice = ask(client, tools=[MOVE]).choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    assert [call.function.name for call in choice.message.tool_calls] == ["move", "turn"]
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"metres": 2}
    answer = {"role": "tool", "content": "done", "tool_call_id": choice.message.tool_calls[0].id}
    messages = [{"role": "user", "content": "go"}, choice.message.model_dump(exclude_none=True), answer]
    assert ask(client, messages=messages).choices[0].message.content == "hello"
    seen = client.door.source.tokenizer.seen
    assert seen[1]["tool_calls"][0]["function"]["arguments"] == {"metres": 2}
    assert seen[2]["tool_call_id"] == answer["tool_call_id"]


def test_streamed_calls_come_whole_and_numbered(client: Any) -> None:
    chunks = [chunk.choices[0] for chunk in ask(client, tools=[MOVE], stream=True)]
    calls = [call for chunk in chunks for call in chunk.delta.tool_calls or []]
    assert [(call.index, call.function.name) for call in calls] == [(0, "move"), (1, "turn")]
    assert chunks[-1].finish_reason == "tool_calls"
    assert not "".join(chunk.delta.content or "" for chunk in chunks)


def test_tool_choice_none_leaves_the_tools_out_and_others_are_refused(client: Any) -> None:
    assert ask(client, tools=[MOVE], tool_choice="none").choices[0].message.content == "hello"
    with pytest.raises(openai.BadRequestError, match="tool_choice"):
        ask(client, tools=[MOVE], tool_choice="often")
    client.door.source.tokenizer.chat_template = "{{ messages }}"
    with pytest.raises(openai.BadRequestError, match="knows no tools"):
        ask(client, tools=[MOVE])
