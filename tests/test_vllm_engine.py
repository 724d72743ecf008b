"""Sessions over a stand-in for vLLM's core that keeps the same rules: what a step runs, and what it commits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scripted_models import HashModel
from stubs import ENGINE_FACTS, serving, stub_session

from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.core.server_options import ServerOptions
from edgespec.model.target_engine import Decisions, ForwardRequest
from edgespec.model.vllm import environment
from edgespec.model.vllm.engine import VllmEngine
from edgespec.model.vllm.jobs import decided, jobs
from edgespec.verifying.verifier import Verifier, VerifierLimits

pytestmark = pytest.mark.needs_torch
SCRIPTED = HashModel(draft_right=0.7)
LONG = [1 + 7 * i % 49 for i in range(300)]


class StubCore:
    """steps: the rows of each one. cached: tokens of a new text that the prefix cache holds. failures: steps that
    raise, after their rows were counted."""

    def __init__(self) -> None:
        self.vllm_config = SimpleNamespace(
            scheduler_config=SimpleNamespace(max_num_seqs=4),
            cache_config=SimpleNamespace(num_gpu_blocks=400, block_size=16),
        )
        self.requests: dict[str, Any] = {}
        self.steps: list[int] = []
        self.cached = self.failures = self.resets = 0

    def add_request(self, request: Any) -> None:
        request.num_computed_tokens = min(self.cached, len(request.all_token_ids) - 1)
        self.requests[request.request_id] = request

    def abort_requests(self, names: list[str]) -> None:
        for name in names:
            del self.requests[name]

    def reset_prefix_cache(self) -> None:
        self.cached, self.resets = 0, self.resets + 1

    def post_step(self, ran: bool) -> None: ...

    def step_fn(self) -> tuple[dict[int, Any], bool]:
        running = {name: job for name, job in jobs.items() if not job.done}
        rows = {name: self._run(self.requests[name], job) for name, job in running.items()}
        self.steps.append(sum(rows.values()))
        if self.failures:
            self.failures -= 1
            raise RuntimeError("out of memory")
        outputs = [self._decide(self.requests[name], running[name], count) for name, count in rows.items()]
        return {0: SimpleNamespace(outputs=outputs)}, bool(rows)

    def _run(self, request: Any, job: Any) -> int:
        read = request.num_computed_tokens >= request.num_prompt_tokens
        drafts = job.left if read else []
        wanted = len(request.all_token_ids) + len(drafts) - request.num_computed_tokens
        rows: int = job.rows(request.num_computed_tokens, wanted)
        request.num_computed_tokens += rows
        return rows

    def _decide(self, request: Any, job: Any, count: int) -> Any:
        """A token behind the text, where the step has reached its end, and behind each draft that agrees."""
        text, new = request.all_token_ids, []
        if request.num_computed_tokens >= len(text):
            drafts = job.left[: request.num_computed_tokens - len(text)]
            for draft in [*drafts, None]:
                new.append(SCRIPTED.target([*text, *new]))
                if new[-1] != draft:
                    break
            text += new
            request.num_computed_tokens = len(text) - 1
            tokens = np.array(new, np.int32)
            path = np.arange(1, len(new), dtype=np.int32)
            decided[request.request_id] = Decisions(
                tokens, -np.ones(len(new), np.float32), tokens * 1.0, path
            )
        return SimpleNamespace(request_id=request.request_id, new_token_ids=new)


def request_of(core: StubCore, name: str, tokens: list[int], salt: bytes) -> Any:
    return SimpleNamespace(
        request_id=name,
        all_token_ids=tokens,
        num_prompt_tokens=len(tokens),
        num_computed_tokens=0,
        is_finished=lambda: name not in core.requests,
    )


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubCore]:
    monkeypatch.setitem(sys.modules, "edgespec.model.vllm.core", SimpleNamespace(request_of=request_of))
    jobs.clear()
    yield StubCore()
    jobs.clear()


class Text:
    """A session's share of forwards."""

    def __init__(self, engine: VllmEngine, prompt: list[int]) -> None:
        self.verifier = Verifier(
            prompt, 40, ServerOptions(fill=True), VerifierLimits(512, trees=False, guesses=False)
        )
        self.cache = engine.open_cache(512)

    def plan(self, rows: int) -> tuple[Any, ForwardRequest]:
        planned, greedy = self.verifier.plan(rows), SamplingParams(temperature=0.0)
        return planned, ForwardRequest(
            self.cache, planned.piece, planned.decide, greedy, 0, text=self.verifier.text
        )


def forward(engine: VllmEngine, texts: list[Text], rows: int = 32) -> int:
    """One of these texts; the rows that were planned for it."""
    planned = [text.plan(rows) for text in texts]
    decisions = engine.forward_batch([request for _, request in planned])
    for text, (shares, _), answer in zip(texts, planned, decisions, strict=True):
        text.verifier.conclude(shares, answer.tokens.tolist(), answer.path.tolist())
    return sum(len(shares.piece) for shares, _ in planned)


def test_a_long_prompt_is_read_beside_a_running_session_in_the_rows_that_were_planned(core: StubCore) -> None:
    engine = VllmEngine(core, ENGINE_FACTS)
    running, reader = Text(engine, [1, 2, 3]), Text(engine, LONG)
    forward(engine, [running])
    while reader.verifier.forwards == 0:
        length, core.steps = len(running.verifier.text), []
        planned = forward(engine, [running, reader])
        assert sum(core.steps) <= planned <= 33
        assert len(running.verifier.text) == length + 1
    assert reader.verifier.text == [*LONG, SCRIPTED.target(LONG)]


def test_what_the_prefix_cache_holds_of_a_prompt_is_not_read_again(core: StubCore) -> None:
    engine, core.cached = VllmEngine(core, ENGINE_FACTS), 160
    reader = Text(engine, LONG)
    while reader.verifier.forwards == 0:
        core.steps, planned = [], forward(engine, [reader])
        assert sum(core.steps) <= planned
    assert reader.verifier.text == [*LONG, SCRIPTED.target(LONG)]


def test_after_a_failed_step_no_request_goes_on_and_no_prefix_is_offered(core: StubCore) -> None:
    engine = VllmEngine(core, ENGINE_FACTS)
    one, other = Text(engine, [1, 2, 3]), Text(engine, [4, 5, 6])
    forward(engine, [one, other])
    core.failures = 1
    _, request = one.plan(32)
    with pytest.raises(RuntimeError):
        engine.forward_batch([request])
    assert not core.requests and core.resets == 1
    engine.forward_batch([request])
    forward(engine, [other])
    assert other.verifier.text == [4, 5, 6, *SCRIPTED.continuation([4, 5, 6], 2)]


@pytest.mark.parametrize("mode", ["cloud", "sync", "preempt", "stream", "predicted", "auto"])
def test_texts_of_every_mode_are_those_of_the_model(core: StubCore, mode: str) -> None:
    with (
        serving(VllmEngine(core, ENGINE_FACTS)) as server,
        stub_session(server.port, scripted=SCRIPTED, mode=mode) as one,
    ):
        one.prompt(LONG)
        list(one)
        assert one.tokens == SCRIPTED.continuation(LONG, 40)
        text = [*LONG, *one.tokens[:20], 7, 8]
        one.append([7, 8], keep_length=len(LONG) + 20)
        list(one)
        assert one.tokens == SCRIPTED.continuation(text, 40)
    assert not core.requests, "a session that ended holds a request"


def test_more_sessions_than_requests_take_turns(core: StubCore) -> None:
    with serving(VllmEngine(core, ENGINE_FACTS)) as server:
        sessions = [stub_session(server.port, scripted=SCRIPTED, mode="stream") for _ in range(6)]
        for number, one in enumerate(sessions):
            one.prompt([number, *LONG[:40]])
        for number, one in enumerate(sessions):
            list(one)
            assert one.tokens == SCRIPTED.continuation([number, *LONG[:40]], 40)
            assert len(core.requests) <= 4
            one.close()


@pytest.mark.parametrize("asked", ["1", "true"])
def test_the_v2_model_runner_is_refused_where_the_environment_asks_for_it(
    monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setattr(environment.os, "environ", {environment.RUNNER: asked})
    with pytest.raises(EdgespecError, match="V2 runner is asked for"):
        VllmEngine.load(None)
