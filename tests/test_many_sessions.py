"""One server, many sessions: one forward for all, memory that is short, a session that fails among others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from scripted_models import HashModel
from stubs import VOCABULARY_HASH, StubDraft, StubTarget, StubTokenizer, hosted, play, serving, stub_session
from tiny_models import tiny

from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.core.slots import Piece
from edgespec.drafting.modes import POLICIES
from edgespec.edge.session import Session
from edgespec.model.attention import SLOT_ATTENTION
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.target import Target
from edgespec.model.target_engine import ForwardRequest
from edgespec.server.metrics import Metrics
from edgespec.server.server import Server

SCRIPTED = HashModel(draft_right=0.7, exit_right=0.8)
MODES = ("sync", "preempt", "cloud")


def session(
    server: Server, mode: str = "cloud", max_new_tokens: int = 30, seed: int = 1, **options: Any
) -> Session:
    params = {"max_new_tokens": max_new_tokens, "seed": seed}
    return stub_session(server.port, scripted=SCRIPTED, mode=mode, params=params, **options)


def together(count: int, generate: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(generate, range(count)))


class Recorder(StubTarget):
    """Records whose rows each forward had, by their seeds. A part that starts a text with `poison` fails."""

    def __init__(self, poison: int | None = None, before_forward: Callable[[], None] = lambda: None) -> None:
        super().__init__(SCRIPTED, before_forward)
        self.poison = poison
        self.seeds: list[list[int]] = []

    def forward_batch(
        self, parts: Sequence[ForwardRequest], exit_layers: Sequence[int] | None = None
    ) -> list[Any]:
        self.seeds.append([part.seed for part in parts])
        if any(begins_with(part.piece, self.poison) for part in parts):
            raise RuntimeError("poisoned")
        return super().forward_batch(parts, exit_layers)


class PacedRecorder(Recorder):
    """Says that a forward costs 3 ms a row."""

    forward_cost = staticmethod(lambda rows: 3.0 * rows)  # type: ignore[assignment]


class FailingDraft(StubDraft):
    """A draft that fails where the text begins with 3."""

    def run(self, piece: Any, *arguments: Any, **options: Any) -> Any:
        if begins_with(piece, 3):
            raise RuntimeError("the draft is broken")
        return super().run(piece, *arguments, **options)


def begins_with(piece: Piece, token: int | None) -> bool:
    return bool(piece.positions[0] == 0 and piece.tokens[0] == token)


def check_ready_together(recorder: type[Recorder], options: Sequence[dict[str, Any]]) -> Recorder:
    """Sessions with these options are ready together, behind the first one's first forward; their texts are right."""
    running, queued = threading.Event(), threading.Event()

    def wait_once() -> None:
        running.set()
        assert queued.wait(10)

    target = recorder(before_forward=wait_once)
    with serving(target) as server, ExitStack() as open_sessions:
        sessions = [
            open_sessions.enter_context(session(server, seed=seed, **one)) for seed, one in enumerate(options)
        ]
        sessions[0].prompt([0, 2])
        assert running.wait(10)
        for number, one in enumerate(sessions[1:], 1):
            one.prompt([number, 2])
        queued.set()
        for number, one in enumerate(sessions):
            list(one)
            assert one.tokens == SCRIPTED.continuation([number, 2], 30)
    return target


def test_sessions_that_are_ready_together_run_in_one_forward() -> None:
    target = check_ready_together(Recorder, [{"mode": MODES[number % 3]} for number in range(7)])
    assert max(map(len, target.seeds)) > 1


@pytest.mark.parametrize(
    ("mode", "poison", "sentence"), [("cloud", 3, "poisoned"), ("colocated", None, "the draft is broken")]
)
def test_a_session_whose_target_or_draft_fails_on_the_server_ends_alone(
    mode: str, poison: int | None, sentence: str
) -> None:
    failures: list[str] = []
    texts: dict[int, list[int]] = {}

    def run(number: int) -> None:
        try:
            with session(server, mode) as one:
                play(one, [number, 2])
                texts[number] = one.tokens
        except EdgespecError as error:
            failures.append(str(error))

    server_drafters = hosted(SCRIPTED, FailingDraft)
    with serving(Recorder(poison), server_drafters=server_drafters, metrics=Metrics()) as server:
        together(6, run)
    assert len(failures) == 1 and sentence in failures[0]
    assert texts == {number: SCRIPTED.continuation([number, 2], 30) for number in range(6) if number != 3}


def test_a_session_too_many_is_refused_with_a_time_to_come_again() -> None:
    with serving(StubTarget(SCRIPTED), max_sessions=1) as server, session(server) as one:
        one.prompt([1, 2])
        one.step()
        with session(server) as two, pytest.raises(EdgespecError, match=r"all the 1 sessions.*try again in"):
            play(two, [1, 2])
        list(one)
    assert one.tokens == SCRIPTED.continuation([1, 2], 30)


# What a session asks for


def test_a_session_with_a_target_of_its_own_is_in_every_forward_while_others_wait() -> None:
    asked = [{"latency_ms": 10.0}, {}, {}, {"mode": "auto", "objective": "cost"}]
    target = check_ready_together(PacedRecorder, asked)
    last = max(at for at, seeds in enumerate(target.seeds) if 0 in seeds)
    assert all(0 in seeds for seeds in target.seeds[: last + 1])
    assert max(target.forwards[: last + 1]) == 2  # 6 of the 10 ms; three rows would take too much of them
    assert max(target.forwards[last + 1 :]) > 2


def test_a_target_that_a_server_does_not_promise_is_refused_with_the_one_it_does() -> None:
    with (
        serving(PacedRecorder(), latency_ms=50.0, least_latency_ms=20.0) as server,
        session(server, latency_ms=10.0) as one,
        pytest.raises(EdgespecError, match="promises 20 ms a token at the least, not 10"),
    ):
        play(one, [1, 2])
    with serving(PacedRecorder(), latency_ms=50.0) as server:
        promised = []
        for options in ({"latency_ms": 60.0}, {}, {"mode": "auto", "objective": "cost"}):
            with session(server, **options) as one:  # type: ignore[arg-type]
                one.prompt([1, 2])
                one.step()
                targets = server.call(lambda: [s.state.latency_ms for s in server.sessions.table.values()])
                promised.append(targets.result(10)[-1])
    assert promised == [60.0, 50.0, None]


@pytest.mark.parametrize("latency_ms", [0.0, -1.0, float("nan"), 1e9])
def test_a_target_that_means_nothing_is_refused_by_the_edge(latency_ms: float) -> None:
    with (
        serving(StubTarget(SCRIPTED)) as server,
        pytest.raises(EdgespecError, match="latency_ms must be above 0"),
    ):
        session(server, latency_ms=latency_ms)


# Determinism


class Replay(HashModel):
    """Drafts what `texts` say comes next, wrong at one place in five."""

    def __init__(self, texts: dict[tuple[int, ...], list[int]]) -> None:
        super().__init__()
        self.__dict__["whole"] = [[*prompt, *text] for prompt, text in texts.items()]

    def draft(self, text: Sequence[int]) -> tuple[Sequence[int], Sequence[float]]:
        length = len(text)
        known: list[int] = next(
            (whole for whole in self.__dict__["whole"] if whole[:length] == list(text)), []
        )
        right = known[length] if length < len(known) else 0
        return [right if length % 5 else (right + 1) % 97, (right + 2) % 97], [0.6, 0.2]


@pytest.fixture(scope="module")
def deterministic() -> Target:
    model = tiny(dtype=torch.float32)
    model.set_attn_implementation(SLOT_ATTENTION)
    return Target(LoadedModel(model, "tiny", VOCABULARY_HASH), kv_memory="64MiB", deterministic=True)


@pytest.fixture(scope="module")
def alone(deterministic: Target) -> dict[tuple[int, ...], list[int]]:
    """What each of sixteen sessions gets when nobody else is there, by its prompt."""
    texts: dict[tuple[int, ...], list[int]] = {}
    with serving(deterministic) as server:
        for number in range(16):
            generate(server, number, "cloud", SCRIPTED, texts)
    return texts


def generate(
    server: Server, number: int, mode: str, scripted: HashModel, into: dict[tuple[int, ...], list[int]]
) -> None:
    prompt = list(range(3 + number, 8 + 4 * number))
    with Session(
        f"127.0.0.1:{server.port}",
        draft=StubDraft(scripted),  # type: ignore[arg-type]
        params=SamplingParams(max_new_tokens=8, seed=number, temperature=[0.0, 0.8][number % 2]),
        mode=mode,
        tokenizer=StubTokenizer(),  # type: ignore[arg-type]
    ) as one:
        play(one, prompt)
        into[tuple(prompt)] = one.tokens


@pytest.mark.parametrize("mode", POLICIES)
def test_sixteen_sessions_together_have_the_texts_that_each_has_alone_bit_for_bit(
    mode: str, deterministic: Target, alone: dict[tuple[int, ...], list[int]]
) -> None:
    crowd: dict[tuple[int, ...], list[int]] = {}
    with serving(deterministic, server_drafters=hosted(Replay(alone))) as server:
        together(16, lambda number: generate(server, number, mode, Replay(alone), crowd))
    assert crowd == alone
