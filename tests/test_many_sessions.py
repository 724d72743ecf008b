"""One server, many sessions: one forward for all, memory that is short, a session that fails among others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from scripted_models import HashModel
from stubs import VOCABULARY_HASH, StubDraft, StubTarget, StubTokenizer, hosted, play, serving, stub_session
from tiny_models import tiny

from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.core.slots import SLOT_BUCKET
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
    threads = [threading.Thread(target=generate, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class BatchRecorder(StubTarget):
    """Records how many parts each forward had. A part that starts a text with `poison` fails its forward."""

    def __init__(self, poison: int | None = None, before_forward: Callable[[], None] = lambda: None) -> None:
        super().__init__(SCRIPTED, before_forward)
        self.poison = poison
        self.parts: list[int] = []

    def forward_batch(
        self, parts: Sequence[ForwardRequest], exit_layers: Sequence[int] | None = None
    ) -> list[Any]:
        self.parts.append(len(parts))
        if any(part.piece.positions[0] == 0 and part.piece.tokens[0] == self.poison for part in parts):
            raise RuntimeError("poisoned")
        return super().forward_batch(parts, exit_layers)


def test_sessions_that_are_ready_together_run_in_one_forward() -> None:
    running, queued = threading.Event(), threading.Event()

    def wait_once() -> None:
        running.set()
        assert queued.wait(10)

    target = BatchRecorder(before_forward=wait_once)
    with serving(target) as server, ExitStack() as open_sessions:
        sessions = [open_sessions.enter_context(session(server, MODES[number % 3])) for number in range(7)]
        sessions[0].prompt([0, 2])
        assert running.wait(10)
        for number, one in enumerate(sessions[1:], 1):
            one.prompt([number, 2])
        queued.set()
        texts = {number: list(one) and one.tokens for number, one in enumerate(sessions)}
    assert max(target.parts) > 1
    assert texts == {number: SCRIPTED.continuation([number, 2], 30) for number in range(7)}


def test_a_session_whose_forward_fails_takes_no_other_with_it() -> None:
    target = BatchRecorder(poison=13)
    failures: list[str] = []
    texts: dict[int, list[int]] = {}

    def generate(number: int) -> None:
        with session(server) as one:
            one.prompt([13 if number == 3 else number, 2])
            try:
                list(one)
                texts[number] = one.tokens
            except EdgespecError as error:
                failures.append(str(error))

    with serving(target) as server:
        together(6, generate)
    assert len(failures) == 1
    assert "poisoned" in failures[0]
    assert texts == {number: SCRIPTED.continuation([number, 2], 30) for number in range(6) if number != 3}


class FailingDraft(StubDraft):
    """A draft that fails where the text begins with 3."""

    def run(self, piece: Any, *arguments: Any, **options: Any) -> Any:
        if piece.positions[0] == 0 and piece.tokens[0] == 3:
            raise RuntimeError("the draft is broken")
        return super().run(piece, *arguments, **options)


def test_a_session_whose_draft_fails_on_the_server_ends_alone_and_may_come_again() -> None:
    failures: list[str] = []
    texts: dict[int, list[int]] = {}

    def run(number: int) -> None:
        try:
            with session(server, "colocated") as one:
                play(one, [number, 2])
                texts[number] = one.tokens
        except EdgespecError as error:
            failures.append(str(error))

    server_drafters = hosted(SCRIPTED, FailingDraft)
    with serving(StubTarget(SCRIPTED), server_drafters=server_drafters, metrics=Metrics()) as server:
        together(6, run)
    assert len(failures) == 1
    assert "the draft is broken" in failures[0]
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


class SeedRecorder(StubTarget):
    """Says that a forward costs 3 ms a row, and records whose rows each had, by their seeds."""

    forward_cost = staticmethod(lambda rows: 3.0 * rows)  # type: ignore[assignment]

    def __init__(self, before_forward: Callable[[], None] = lambda: None) -> None:
        super().__init__(SCRIPTED, before_forward)
        self.seeds: list[list[int]] = []

    def forward_batch(
        self, parts: Sequence[ForwardRequest], exit_layers: Sequence[int] | None = None
    ) -> list[Any]:
        self.seeds.append([part.seed for part in parts])
        return super().forward_batch(parts, exit_layers)


def test_a_session_with_a_target_of_its_own_is_in_every_forward_while_others_wait() -> None:
    running, queued = threading.Event(), threading.Event()

    def wait_once() -> None:
        running.set()
        assert queued.wait(10)

    target = SeedRecorder(wait_once)
    with serving(target) as server, ExitStack() as open_sessions:
        asked = [{"latency_ms": 10.0}, {}, {}, {"mode": "auto", "objective": "cost"}]
        sessions = [
            open_sessions.enter_context(session(server, seed=seed, **options))
            for seed, options in enumerate(asked)
        ]
        sessions[0].prompt([0, 2])
        assert running.wait(10)
        for number, one in enumerate(sessions[1:], 1):
            one.prompt([number, 2])
        queued.set()
        texts = {number: list(one) and one.tokens for number, one in enumerate(sessions)}
    assert texts == {number: SCRIPTED.continuation([number, 2], 30) for number in range(4)}
    last = max(at for at, seeds in enumerate(target.seeds) if 0 in seeds)
    assert all(0 in seeds for seeds in target.seeds[: last + 1])
    assert max(target.forwards[: last + 1]) == 2  # 6 of the 10 ms; three rows would take too much of them
    assert max(target.forwards[last + 1 :]) > 2


def test_a_target_that_a_server_does_not_promise_is_refused_with_the_one_it_does() -> None:
    with (
        serving(SeedRecorder(), latency_ms=50.0, least_latency_ms=20.0) as server,
        session(server, latency_ms=10.0) as one,
        pytest.raises(EdgespecError, match="promises 20 ms a token at the least, not 10"),
    ):
        play(one, [1, 2])
    with serving(SeedRecorder(), latency_ms=50.0) as server:
        promised = []
        for options in ({"latency_ms": 60.0}, {}, {"mode": "auto", "objective": "cost"}):
            with session(server, **options) as one:  # type: ignore[arg-type]
                one.prompt([1, 2])
                one.step()
                promised.append(
                    server.call(
                        lambda: [s.state.latency_ms for s in server.sessions.table.values()][-1]
                    ).result(10)
                )
    assert promised == [60.0, 50.0, None]


@pytest.mark.parametrize("latency_ms", [0.0, -1.0, float("nan"), 1e9])
def test_a_target_that_means_nothing_is_refused_by_the_edge(latency_ms: float) -> None:
    with (
        serving(StubTarget(SCRIPTED)) as server,
        pytest.raises(EdgespecError, match="latency_ms must be above 0"),
    ):
        session(server, latency_ms=latency_ms)


# Memory, on a real target


class TestMemory:
    """Pages for two sessions of this size, and the pool's scratch page."""

    NEED = -(-(3 + 30 + 65) // SLOT_BUCKET)

    @pytest.fixture
    def target(self) -> Target:
        model = tiny()
        page_bytes = Target(LoadedModel(model, "tiny", VOCABULARY_HASH), kv_memory="1MiB").pool.page_bytes
        memory = (2 * self.NEED + 1) * page_bytes
        return Target(LoadedModel(model, "tiny", VOCABULARY_HASH), kv_memory=memory)

    def test_what_does_not_fit_is_refused_and_what_runs_goes_on(self, target: Target) -> None:
        with serving(target) as server, session(server) as one, session(server) as two:
            for running in (one, two):
                running.prompt([5, 6, 7])
                running.step()
            with session(server) as three, pytest.raises(EdgespecError, match="key-value memory lacks"):
                play(three, [5, 6, 7])
            list(one), list(two)
            assert one.tokens == two.tokens
            assert len(one.tokens) == 30

    def test_a_finished_text_gives_its_memory_up_and_is_rebuilt_for_its_next_turn(
        self, target: Target
    ) -> None:
        def conversation(server: Server, between: Callable[[], None]) -> list[int]:
            with session(server) as one:
                play(one, [5, 6, 7])
                between()
                one.append([8, 9], max_new_tokens=10)
                list(one)
                return one.tokens

        def others(server: Server) -> None:
            with session(server) as two, session(server) as three:
                for other in (two, three):
                    other.prompt([9, 9, 9])
                    other.step()
                list(two), list(three)

        with serving(target) as server:
            undisturbed = conversation(server, lambda: None)
            assert conversation(server, lambda: others(server)) == undisturbed

    def test_the_end_of_a_session_frees_its_memory(self, target: Target) -> None:
        free = target.pool.pages.free
        with serving(target) as server:
            for _ in range(3):
                with session(server) as one:
                    play(one, [5, 6, 7])
            with session(server) as one:
                one.prompt([5, 6, 7])
        assert target.pool.pages.free + target.pool.pages.reclaimable == free


def test_a_prompt_that_another_session_had_is_not_computed_again() -> None:
    target = Target(LoadedModel(tiny(), "tiny", VOCABULARY_HASH), kv_memory="64MiB")
    rows: list[int] = []
    forward_batch = target.forward_batch

    def count(parts: Sequence[ForwardRequest], exit_layers: Sequence[int] | None = None) -> Any:
        rows.append(sum(len(part.piece) for part in parts))
        return forward_batch(parts, exit_layers)

    target.forward_batch = count  # type: ignore[method-assign]
    prompt = [5 + i % 40 for i in range(300)]
    texts = []
    with serving(target) as server:
        for _ in range(2):
            with session(server, max_new_tokens=5) as one:
                play(one, prompt)
                texts.append(one.tokens)
    assert texts[0] == texts[1]
    assert sum(rows) == (300 + 4) + (300 - 4 * SLOT_BUCKET + 4)


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
        params=SamplingParams(max_new_tokens=12, seed=number, temperature=[0.0, 0.8][number % 2]),
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
