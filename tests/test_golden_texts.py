"""The bundled pair's texts, recorded once: every mode gives these tokens, whatever was rebuilt since.

`golden_texts.json` was recorded in float64, where no two scores tie. Each case is a prompt, its sampling parameters and
two turns; `cloud`, a chain, hints and the default policy take turns over the cases, so that each meets each kind.
"""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

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
CASES = [
    pytest.param(case, MODES[(number + turn) % len(MODES)], id=f"{case['name']}-{number}-{turn}")
    for number, case in enumerate(RECORDED["cases"])
    for turn in (0, 3)
]


@pytest.fixture(scope="module")
def target() -> Target:
    return Target.load(None, dtype="float64")


@pytest.fixture(scope="module")
def server(target: Target) -> Iterator[Server]:
    with running(target) as one:
        yield one


@pytest.fixture(scope="module")
def engine() -> DraftEngine:
    return load_draft(bundled_engine())


class running:
    """A server of this target in a thread, until the block ends."""

    def __init__(self, target: Target) -> None:
        self.server = Server(target, port=0)
        self.thread = threading.Thread(target=self.server.run)

    def __enter__(self) -> Server:
        self.thread.start()
        return self.server

    def __exit__(self, *_: object) -> None:
        self.server.stop()
        self.thread.join()


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Memory:
    """Each case comes in two modes, so that the second one finds what the first one left."""
    return Memory(tmp_path_factory.mktemp("memory"))


def session(
    servers: list[Server], engine: DraftEngine, mode: str, memory: Memory | None = None, **params: Any
) -> Session:
    sampling = SamplingParams(**{"max_new_tokens": 40, **params})
    addresses = [("127.0.0.1", one.port) for one in servers]
    return Session(addresses, engine, sampling, mode=mode, memory=memory)


@pytest.mark.parametrize(("case", "mode"), CASES)
def test_a_mode_gives_the_recorded_text_and_the_next_turn(
    server: Server, engine: DraftEngine, memory: Memory, case: dict[str, Any], mode: str
) -> None:
    params = {**case["params"]}
    params["logit_bias"] = {int(token): bias for token, bias in params.get("logit_bias", {}).items()}
    first, second = case["turns"]
    with session([server], engine, mode, memory, **params) as one:
        one.prompt(case["prompt"])
        list(one)
        assert (one.tokens, one.text, one.finish_reason) == (
            first["tokens"],
            first["text"],
            first["finish_reason"],
        )
        one.append(second["append"], max_new_tokens=16)
        list(one)
        assert (one.tokens, one.text, one.finish_reason) == (
            second["tokens"],
            second["text"],
            second["finish_reason"],
        )


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
        running(target) as first,
        running(target) as second,
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
