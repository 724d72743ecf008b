"""The API gives the target's own text, to OpenAI's own client, whole and streamed."""

import asyncio
from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
openai = pytest.importorskip("openai")

from api_server import expected, open_api  # noqa: E402

PROMPT = "HELLO"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with open_api() as (url, _):
        yield url


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_whole_chat_is_the_targets_text(client: openai.OpenAI) -> None:
    messages = [{"role": "system", "content": "BE"}, {"role": "user", "content": PROMPT}]
    answer = client.chat.completions.create(model="edgespec", messages=messages, max_tokens=20, temperature=0)
    choice = answer.choices[0]
    assert choice.message.content == expected(f"SBEU{PROMPT}A", 20)
    assert choice.finish_reason == "length" and choice.message.role == "assistant"
    assert answer.usage.completion_tokens == 20 and answer.usage.prompt_tokens == 3 + 6 + 1
    assert answer.usage.total_tokens == 30


def test_a_streamed_chat_is_the_same_text_and_ends_with_its_usage(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="edgespec",
            messages=[{"role": "user", "content": [{"type": "text", "text": PROMPT}]}],
            max_completion_tokens=20,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    deltas = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert deltas[0].delta.role == "assistant"
    assert "".join(one.delta.content or "" for one in deltas) == expected(f"U{PROMPT}A", 20)
    assert [one.finish_reason for one in deltas if one.finish_reason] == ["length"]
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].usage.completion_tokens == 20
    speculation = chunks[-1].model_extra["metrics"]["speculative_decoding"]
    assert sum(speculation["acceptance_histogram"]) > 0
    assert speculation["num_accepted_draft_tokens"] <= speculation["num_draft_tokens"]


def test_completions_take_text_lists_and_token_ids(client: openai.OpenAI) -> None:
    asked = {"model": "edgespec", "max_tokens": 8, "temperature": 0}
    assert client.completions.create(prompt=PROMPT, **asked).choices[0].text == expected(PROMPT, 8)
    answer = client.completions.create(prompt=["AB", "CD"], n=2, **asked)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 32)
    two = answer.choices
    assert [one.text for one in two] == [expected("AB", 8)] * 2 + [expected("CD", 8)] * 2
    assert [one.index for one in two] == [0, 1, 2, 3]
    ids = client.completions.create(prompt=[0, 1], echo=True, **asked).choices[0].text
    assert ids == "AB" + expected("AB", 8)
    streamed = client.completions.create(prompt=PROMPT, stream=True, **asked)
    assert "".join(chunk.choices[0].text for chunk in streamed) == expected(PROMPT, 8)


def test_a_stop_string_ends_the_text_before_it(client: openai.OpenAI) -> None:
    text = expected(PROMPT, 20)
    answer = client.completions.create(
        model="edgespec", prompt=PROMPT, max_tokens=20, temperature=0, stop=[text[7:10]]
    )
    assert answer.choices[0].text == text[: text.index(text[7:10])]
    assert answer.choices[0].finish_reason == "stop"


def test_logprobs_belong_to_the_tokens(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": PROMPT}]
    asked = {"model": "edgespec", "messages": messages, "max_tokens": 6, "temperature": 0, "logprobs": True}
    content = client.chat.completions.create(**asked).choices[0].logprobs.content
    text = expected(f"U{PROMPT}A", 6)
    assert [one.token for one in content] == list(text)
    assert [one.logprob for one in content] == [-float(ord(letter) - 65) for letter in text]
    plain = client.completions.create(model="edgespec", prompt="AB", max_tokens=4, temperature=0, logprobs=0)
    assert plain.choices[0].logprobs.top_logprobs is None
    assert plain.choices[0].logprobs.text_offset == [0, 1, 2, 3]


def test_the_likeliest_tokens_are_named_beside_each_token(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": PROMPT}]
    asked = {"model": "edgespec", "messages": messages, "max_tokens": 6, "temperature": 0, "logprobs": True}
    content = client.chat.completions.create(**asked, top_logprobs=2).choices[0].logprobs.content
    streamed = client.chat.completions.create(**asked, top_logprobs=2, stream=True)
    assert [one for chunk in streamed for one in chunk.choices[0].logprobs.content] == content
    for one in content:
        first, second = one.top_logprobs
        assert (first.token, first.logprob) == (one.token, one.logprob)
        assert (second.token, second.logprob) == (chr(ord(one.token) + 1), one.logprob - 1)
    asked = {"model": "edgespec", "prompt": PROMPT, "max_tokens": 4, "temperature": 0}
    plain = client.completions.create(**asked, logprobs=2).choices[0]
    numbers = [ord(letter) - 65 for letter in plain.text]
    assert plain.logprobs.top_logprobs == [{chr(65 + n): -n, chr(66 + n): -n - 1} for n in numbers]


def test_many_streams_at_once_all_give_their_own_texts(url: str) -> None:
    async def one(client: openai.AsyncOpenAI, prompt: str) -> str:
        stream = await client.completions.create(
            model="edgespec", prompt=prompt, max_tokens=30, temperature=0, stream=True
        )
        return "".join([chunk.choices[0].text async for chunk in stream])

    async def all_texts(prompts: list[str]) -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(one(client, prompt) for prompt in prompts))

    prompts = [f"{chr(65 + number)}X{chr(66 + number)}" for number in range(24)]
    assert asyncio.run(all_texts(prompts)) == [expected(prompt, 30) for prompt in prompts]


def test_models_are_listed_and_others_are_not_there(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["edgespec"]
    assert client.models.retrieve("edgespec").id == "edgespec"
    with pytest.raises(openai.NotFoundError, match="ask for 'edgespec'"):
        client.completions.create(model="gpt", prompt="A")
