"""/v1/responses with OpenAI's own client: text and calls, whole and as events."""

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
openai = pytest.importorskip("openai")

from api_server import expected, open_api  # noqa: E402
from stubs import StubTarget  # noqa: E402
from test_api_tools import END, MOVE, Caller, CallerTokenizer  # noqa: E402

FLAT_MOVE = {"type": "function", **MOVE["function"]}


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with open_api() as (url, _), openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_whole_response_is_the_targets_text(client: Any) -> None:
    answer = client.responses.create(
        model="edgespec", instructions="BE", input="HELLO", temperature=0, max_output_tokens=20
    )
    assert answer.output_text == expected("SBEUHELLOA", 20)
    assert answer.status == "incomplete" and answer.incomplete_details.reason == "max_output_tokens"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (10, 20)
    turns = [*answer.output, {"role": "user", "content": [{"type": "input_text", "text": "AND"}]}]
    more = client.responses.create(model="edgespec", input=turns, temperature=0, max_output_tokens=5)
    assert more.output_text == expected(f"A{answer.output_text}UANDA", 5)


def test_streamed_events_come_numbered_and_make_the_same_text(client: Any) -> None:
    asked = {"model": "edgespec", "input": "HELLO", "temperature": 0, "max_output_tokens": 20}
    events = list(client.responses.create(stream=True, **asked))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == expected(
        "UHELLOA", 20
    )
    assert events[0].type == "response.created" and events[-1].type == "response.incomplete"
    assert events[-1].response.output_text == expected("UHELLOA", 20)
    with client.responses.stream(**asked) as stream:
        assert [event.snapshot for event in stream if event.type == "response.output_text.delta"][
            -1
        ] == expected("UHELLOA", 20)


def test_calls_are_items_and_their_outputs_come_back() -> None:
    target = StubTarget(Caller())
    target.end_tokens = (END,)
    with (
        open_api(target, tokenizer=CallerTokenizer(), scripted=Caller()) as (url, _),
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        asked = {"model": "edgespec", "temperature": 0, "max_output_tokens": 200}
        answer = client.responses.create(input="go", tools=[FLAT_MOVE], **asked)
        assert answer.status == "completed"
        assert [(item.type, item.name) for item in answer.output] == [
            ("function_call", "move"),
            ("function_call", "turn"),
        ]
        events = list(client.responses.create(input="go", tools=[FLAT_MOVE], stream=True, **asked))
        done = [event for event in events if event.type == "response.function_call_arguments.done"]
        assert [event.arguments for event in done] == [item.arguments for item in answer.output]
        output = {"type": "function_call_output", "call_id": answer.output[0].call_id, "output": "done"}
        turns = [{"role": "user", "content": "go"}, *answer.output, output]
        assert client.responses.create(input=turns, **asked).output_text == "hello"


def test_log_probabilities_come_where_they_are_included(client: Any) -> None:
    asked = {"model": "edgespec", "input": "HELLO", "temperature": 0, "max_output_tokens": 5}
    asked |= {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    answer = client.responses.create(**asked)
    [part] = answer.output[0].content
    assert [one.token for one in part.logprobs] == list(answer.output_text)
    assert all(len(one.top_logprobs) == 2 for one in part.logprobs)
    deltas = [
        event
        for event in client.responses.create(**asked, stream=True)
        if event.type == "response.output_text.delta"
    ]
    assert [one.token for event in deltas for one in event.logprobs] == list(answer.output_text)


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("top_logprobs", 2),
        ("text.format", {"type": "poem"}),
        ("text.verbosity", "high"),
        ("previous_response_id", "resp_1"),
        ("store", True),
        ("truncation", "auto"),
        ("no_such_thing", 1),
    ],
)
def test_what_is_not_offered_is_refused_by_name(client: Any, param: str, value: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        name, _, within = param.partition(".")
        body = {name: {within: value} if within else value}
        client.responses.create(model="edgespec", input="HI", extra_body=body)
    assert refused.value.param == param
