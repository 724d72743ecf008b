"""The bundled pair's texts, recorded once: every mode gives these tokens, whatever was rebuilt since.

`golden_texts.json` was recorded in float64, where no two scores tie. Each case is a prompt, its sampling parameters and
two turns, and is written in two modes, which take turns over the cases. A mode's cases are written at once, by
sessions beside each other.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from stubs import serving

from edgespec.core.params import SamplingParams
from edgespec.edge.device_session import DeviceSession
from edgespec.edge.memory import Memory
from edgespec.edge.session import Session
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import DraftEngine, load_draft
from edgespec.model.target import Target
from edgespec.server.server import Server

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parent / "golden_texts.json").read_text(encoding="utf-8")
)
MODES = ("cloud", "sync", "preempt", "auto", "stream", "accept-all", "predicted")
CASES: list[dict[str, Any]] = RECORDED["cases"]


@pytest.fixture(scope="module")
def target() -> Target:
    return Target.load(None, dtype="float64", threads=1)


@pytest.fixture(scope="module")
def server(target: Target) -> Iterator[Server]:
    with serving(target, shared_memory=True) as one:
        yield one


@pytest.fixture(scope="module")
def engine() -> DraftEngine:
    return load_draft(bundled_engine())


@pytest.fixture(scope="module")
def memories(tmp_path_factory: pytest.TempPathFactory) -> list[Memory]:
    """Of each case: its second mode finds what the first one left."""
    return [Memory(tmp_path_factory.mktemp("memory")) for _ in CASES]


def session(
    servers: list[Server], engine: DraftEngine, mode: str, memory: Memory | None = None, **params: Any
) -> Session:
    sampling = SamplingParams(**{"max_new_tokens": 40, **params})
    addresses = [("127.0.0.1", one.port) for one in servers]
    return Session(addresses, engine, sampling, mode=mode, memory=memory, shared_memory=memory is not None)


def two_turns(server: Server, memory: Memory, case: dict[str, Any], mode: str) -> list[dict[str, Any]]:
    """What was recorded of the case's turns, written anew."""
    params = {**case["params"]}
    params["logit_bias"] = {int(token): bias for token, bias in params.get("logit_bias", {}).items()}
    appended = case["turns"][1]["append"]
    with session([server], load_draft(bundled_engine()), mode, memory, **params) as one:
        one.prompt(case["prompt"])
        list(one)
        first = {"tokens": one.tokens, "text": one.text, "finish_reason": one.finish_reason}
        one.append(appended, max_new_tokens=16)
        list(one)
        second = {"tokens": one.tokens, "text": one.text, "finish_reason": one.finish_reason}
    return [first, {**second, "append": appended}]


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_gives_the_recorded_texts_and_the_next_turns(
    server: Server, memories: list[Memory], mode: str
) -> None:
    numbers = [
        number
        for number in range(len(CASES))
        for turn in (0, 3)
        if MODES[(number + turn) % len(MODES)] == mode
    ]
    # Beside others, which make it wait for longer, `predicted` would draft more.
    with ThreadPoolExecutor(1 if mode == "predicted" else len(numbers)) as pool:
        written = pool.map(lambda number: two_turns(server, memories[number], CASES[number], mode), numbers)
    for number, turns in zip(numbers, written, strict=True):
        assert turns == CASES[number]["turns"], f"{CASES[number]['name']}, number {number}"


def test_log_probabilities_are_the_recorded_ones(server: Server, engine: DraftEngine) -> None:
    recorded = RECORDED["logprobs"]
    with session([server], engine, "sync", **recorded["params"], logprobs=True) as one:
        one.prompt(recorded["prompt"])
        logprobs = [logprob for step in one for logprob in step.logprobs or []]
    assert one.tokens == recorded["tokens"]
    assert logprobs == pytest.approx(recorded["logprobs"], abs=1e-5)


@pytest.mark.parametrize("mode", ["cloud", "auto"])
def test_a_text_that_moves_to_another_server_goes_on_as_recorded(
    target: Target, engine: DraftEngine, mode: str
) -> None:
    case = next(case for case in RECORDED["cases"] if case["name"] == "temperature")
    with (
        serving(target) as first,
        serving(target) as second,
        session([first, second], engine, mode, **case["params"]) as one,
    ):
        one.prompt(case["prompt"])
        while len(one.tokens) < 5:
            one.step()
        first.drain(timeout_s=0.0)
        list(one)
        assert one.tokens == case["turns"][0]["tokens"]


@pytest.mark.parametrize("recorded", RECORDED["device"], ids=["greedy", "sampled"])
def test_the_draft_alone_writes_the_recorded_text(engine: DraftEngine, recorded: dict[str, Any]) -> None:
    with DeviceSession(engine, SamplingParams(max_new_tokens=32, **recorded["params"])) as one:
        one.prompt(recorded["prompt"])
        list(one)
        assert (one.tokens, one.text) == (recorded["tokens"], recorded["text"])
