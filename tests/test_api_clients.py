"""Clients that know nothing of edgespec work unchanged: LiteLLM, LangChain's ChatOpenAI, `llm`; and schemathesis sends
what the OpenAPI document allows. Each runs where it is installed; `make clients` installs all of them."""

import asyncio
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from api_server import MODEL, expected, open_api
from stubs import StubTarget
from test_api_tools import END, MOVE, Caller, CallerTokenizer

PROMPT = "HELLO"
ANSWER = expected(f"U{PROMPT}A", 20)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with open_api() as (url, _):
        yield f"{url}/v1"


@pytest.fixture(scope="module")
def caller_url() -> Iterator[str]:
    """Of a model that calls tools where it is offered some."""
    target = StubTarget(Caller())
    target.end_tokens = (END,)
    with open_api(target, tokenizer=CallerTokenizer(), scripted=Caller()) as (url, _):
        yield f"{url}/v1"


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it fetches a list from the network
    return pytest.importorskip("litellm")


def test_litellm_whole_streamed_and_asynchronous(litellm: Any, url: str) -> None:
    asked = {
        "model": "openai/edgespec",
        "api_base": url,
        "api_key": "none",
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": 20,
        "temperature": 0,
    }
    whole = litellm.completion(**asked, logprobs=True, top_logprobs=2)
    assert whole.choices[0].message.content == ANSWER and whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 20
    chunks = list(litellm.completion(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
    answer = asyncio.run(litellm.acompletion(**asked))
    assert answer.choices[0].message.content == ANSWER


def test_litellm_tools_and_refusals(litellm: Any, caller_url: str) -> None:
    asked = {"model": "openai/edgespec", "api_base": caller_url, "api_key": "none", "temperature": 0}
    messages = [{"role": "user", "content": "go"}]
    answer = litellm.completion(**asked, messages=messages, tools=[MOVE], max_tokens=200)
    assert [call.function.name for call in answer.choices[0].message.tool_calls] == ["move", "turn"]
    with pytest.raises(litellm.BadRequestError, match="logit_bias"):
        litellm.completion(**asked, messages=messages, logit_bias={"1": 101})


def chat_openai(url: str, **more: Any) -> Any:
    langchain = pytest.importorskip("langchain_openai")
    return langchain.ChatOpenAI(model="edgespec", base_url=url, api_key="none", temperature=0, **more)


def test_langchain_whole_streamed_and_in_a_batch(url: str) -> None:
    chat = chat_openai(url, max_tokens=20, stream_usage=True)
    answer = chat.invoke(PROMPT)
    assert answer.content == ANSWER and answer.usage_metadata["output_tokens"] == 20
    chunks = list(chat.stream(PROMPT))
    assert "".join(chunk.content for chunk in chunks) == ANSWER
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata) == 20
    prompts = ["AB", "CD", "EF"]
    assert [one.content for one in chat.batch(prompts)] == [expected(f"U{one}A", 20) for one in prompts]
    assert asyncio.run(chat.ainvoke(PROMPT)).content == ANSWER


def test_langchain_reads_log_probabilities(url: str) -> None:
    answer = chat_openai(url, max_tokens=4, logprobs=True, top_logprobs=2).invoke(PROMPT)
    content = answer.response_metadata["logprobs"]["content"]
    assert [one["token"] for one in content] == list(ANSWER[:4])
    assert all(len(one["top_logprobs"]) == 2 for one in content)


def test_langchain_tools_and_their_answers(caller_url: str) -> None:
    from_tools = chat_openai(caller_url, max_tokens=200).bind_tools([MOVE])
    answer = from_tools.invoke("go")
    assert [(call["name"], call["args"]) for call in answer.tool_calls] == [
        ("move", {"metres": 2}),
        ("turn", {"metres": 2}),
    ]
    chunks = list(from_tools.stream("go"))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert [call["name"] for call in whole.tool_calls] == ["move", "turn"]


def test_langchain_over_the_responses_api(url: str) -> None:
    answer = chat_openai(url, max_tokens=20, use_responses_api=True, store=False).invoke(PROMPT)
    assert answer.text == ANSWER


def test_llm_on_the_command_line(url: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("llm") is None:
        pytest.skip("`llm` is not installed: make clients")
    models = f"- model_id: edge\n  model_name: edgespec\n  api_base: {url}\n"
    (tmp_path / "extra-openai-models.yaml").write_text(models)
    environment = {**os.environ, "LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "none"}
    for stream in ([], ["--no-stream"]):
        options = ["-m", "edge", "-o", "temperature", "0", "-o", "max_tokens", "20", *stream, PROMPT]
        asked = [sys.executable, "-m", "llm", *options]
        answer = subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=60)
        assert answer.stdout.rstrip("\n") == ANSWER, answer.stderr


@pytest.mark.timeout(300)
def test_no_request_that_the_document_allows_breaks_the_api(tmp_path: Path) -> None:
    if importlib.util.find_spec("schemathesis") is None:
        pytest.skip("schemathesis is not installed: make clients")
    options = [
        f"--max-examples={os.environ.get('EDGESPEC_EXAMPLES', 10)}",
        "--phases=examples,coverage,fuzzing",
        "--seed=1",
        "--generation-database=none",
        "--request-timeout=20",
        "--checks=not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]
    target = StubTarget(MODEL)
    target.context_length = 64  # whatever length is asked for
    with open_api(target) as (url, _):
        asked = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", *options]
        answer = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert answer.returncode == 0, answer.stdout[-6000:] + answer.stderr[-2000:]
