"""Mode `device`: the draft's own text, with no server; what a draft cannot honour is refused."""

import json
import subprocess
import sys
from typing import Any

import pytest
from scripted_models import HashModel
from stubs import StubDraft, StubTokenizer, play

from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.edge.device_session import DeviceSession
from edgespec.engines.bundled import bundled_engine

PROMPT = [1, 2, 3]
SCRIPTED = HashModel(draft_right=0.5)


def session(**params: Any) -> DeviceSession:
    options = {"max_new_tokens": 40, "seed": 1, **params}
    return DeviceSession(StubDraft(SCRIPTED), SamplingParams(**options), tokenizer=StubTokenizer())  # type: ignore[arg-type]


def drafted(prompt: list[int], count: int) -> list[int]:
    """What the draft says, token after token."""
    text = list(prompt)
    for _ in range(count):
        text.append(int(SCRIPTED.draft(text)[0][0]))
    return text[len(prompt) :]


def test_the_text_is_the_drafts_own() -> None:
    with session() as one:
        steps = play(one, PROMPT)
    assert one.tokens == drafted(PROMPT, 40) == [token for step in steps for token in step.tokens]
    assert one.text == "".join(step.text for step in steps)
    assert one.finish_reason == "length" and one.statistics.committed == 40


def test_a_next_turn_goes_on_behind_the_first() -> None:
    one = session(max_new_tokens=5)
    one.prompt(PROMPT)
    first = [token for step in one for token in step.tokens]
    one.append([7, 8], max_new_tokens=6)
    assert [token for step in one for token in step.tokens] == drafted([*PROMPT, *first, 7, 8], 6)


def test_a_stop_string_ends_the_text_before_it() -> None:
    one = session()
    one.prompt(PROMPT)
    whole = "".join(step.text for step in one)
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    other = session(stop=(stop,))
    other.prompt(PROMPT)
    assert "".join(step.text for step in other) == whole[: whole.index(stop)]
    assert other.finish_reason == "stop"


def test_a_text_ends_where_the_drafts_cache_does() -> None:
    one = session(max_new_tokens=5000)
    play(one, PROMPT)
    assert one.finish_reason == "context" and len(one.tokens) > 500


def test_biases_and_tokens_that_end_a_text_are_honoured() -> None:
    def tokens(**params: Any) -> list[int]:
        options = SamplingParams(**{"max_new_tokens": 24, "ignore_eos": True, **params})
        with DeviceSession(bundled_engine(), options) as one:
            play(one, "def read_lines(path):\n")
        return one.tokens

    plain = tokens()
    often = max(plain, key=plain.count)
    for banned in ({"logit_bias": {often: -1e9}}, {"bad_words_ids": ((often,),)}):
        assert often not in tokens(**banned)
    assert len(set(tokens(presence_penalty=2.0, frequency_penalty=2.0))) > len(set(plain))
    first = plain.index(often) + 1
    assert tokens(stop_token_ids=(often,)) == plain[:first]
    assert len(tokens(stop_token_ids=(often,), min_tokens=first + 2)) > first


@pytest.mark.parametrize("parameter", [{"top_k": 5}, {"top_p": 0.9}, {"logprobs": True}])
def test_what_a_draft_cannot_honour_is_refused(parameter: dict[str, Any]) -> None:
    with pytest.raises(EdgespecError, match="mode 'device' does not offer"):
        session(**parameter)


def test_the_command_needs_no_server() -> None:
    command = [sys.executable, "-m", "edgespec", "generate", "--mode", "device", "--json", "--seed", "3"]
    command += ["--prompt", "def f(x):\n", "--max-new-tokens", "12", "--temperature", "0.8"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    printed = json.loads(done.stdout)
    params = SamplingParams(temperature=0.8, seed=3, max_new_tokens=12)
    with DeviceSession(bundled_engine(), params) as one:
        play(one, "def f(x):\n")
    assert printed["mode"] == "device" and printed["tokens"] == one.tokens
