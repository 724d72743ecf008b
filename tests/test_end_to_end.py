"""The bundled pair over real sockets, a server in a process of its own: every mode gives the target's own tokens.

In float64, where equal means equal. The large grid is benchmarks/exactness.py.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from edgespec.cli.child import Child, started
from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.drafting.modes import POLICIES
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.memory import Memory
from edgespec.edge.session import Session
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import DraftEngine, load_draft

pytestmark = pytest.mark.needs_torch

PROMPT = "def read_lines(path):\n    "
TOKENS = 24


@pytest.fixture(scope="module")
def process() -> Iterator[Child]:
    serve = ("serve", "--port", "0", "--threads", "1", "--dtype", "float64", "--shared-memory")
    with started(serve, "starting") as one:
        yield one


@pytest.fixture(scope="module")
def server(process: Child) -> tuple[str, int]:
    return process.address


@pytest.fixture(scope="module")
def engine() -> DraftEngine:
    return load_draft(bundled_engine())


def sampled(params: dict[str, Any]) -> SamplingParams:
    return SamplingParams(max_new_tokens=TOKENS, ignore_eos=True, **params)


def generate(
    server: tuple[str, int], engine: DraftEngine, mode: str, memory: Memory | None = None, **params: Any
) -> list[int]:
    memories: dict[str, Any] = {"memory": memory, "shared_memory": memory is not None}
    with Session(server, engine, sampled(params), mode=mode, **memories) as session:
        session.prompt(PROMPT)
        for _ in session:
            pass
        return session.tokens


@pytest.mark.parametrize("repetition_penalty", [1.0, 1.3])
def test_greedy_cloud_decoding_is_what_transformers_generates(
    server: tuple[str, int], engine: DraftEngine, repetition_penalty: float
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from edgespec.engines.model_folder import find_folder

    prompt = Tokenizer.load(engine.tokenizer_path).encode(PROMPT)
    model = AutoModelForCausalLM.from_pretrained(find_folder(None), dtype=torch.float64)
    with torch.inference_mode():
        text = model.generate(
            torch.tensor([prompt]),
            max_new_tokens=TOKENS,
            min_new_tokens=TOKENS,
            do_sample=False,
            eos_token_id=None,
            repetition_penalty=repetition_penalty,
        )
    assert (
        generate(server, engine, "cloud", repetition_penalty=repetition_penalty)
        == text[0, len(prompt) :].tolist()
    )


@pytest.mark.parametrize(
    "sampling",
    [
        {},
        {"temperature": 0.8, "top_p": 0.95, "top_k": 50, "seed": 7},
        {"temperature": 1.0, "min_p": 0.05, "repetition_penalty": 1.2, "logit_bias": {12: -3.0}, "seed": 2},
        {"temperature": 0.8, "presence_penalty": 0.6, "frequency_penalty": 0.4, "min_tokens": 20, "seed": 5},
    ],
)
def test_every_mode_gives_the_same_tokens(
    server: tuple[str, int], engine: DraftEngine, tmp_path: Path, sampling: dict[str, Any]
) -> None:
    """All modes at once."""

    def written(mode: str) -> list[int]:
        return generate(server, load_draft(bundled_engine()), mode, **sampling)

    with ThreadPoolExecutor(len(POLICIES)) as pool:
        texts = dict(zip(POLICIES, pool.map(written, POLICIES), strict=True))
    memory = Memory(tmp_path)
    for mode in ("sync", "auto", "stream"):
        texts[f"{mode} with memories"] = generate(server, engine, mode, memory, **sampling)
    assert len(texts["cloud"]) == TOKENS
    assert {mode: text for mode, text in texts.items() if text != texts["cloud"]} == {}


def test_seeds_make_different_texts_and_the_same_seed_the_same(
    server: tuple[str, int], engine: DraftEngine
) -> None:
    texts = [generate(server, engine, "auto", temperature=1.0, seed=seed) for seed in (1, 2, 1)]
    assert texts[0] == texts[2] != texts[1]


def test_a_next_turn_gives_what_one_long_prompt_gives(server: tuple[str, int], engine: DraftEngine) -> None:
    tokenizer = Tokenizer.load(engine.tokenizer_path)
    addition = tokenizer.encode("\n\nclass Reader:\n", add_special_tokens=False)
    params = SamplingParams(max_new_tokens=12, ignore_eos=True)
    with Session(server, engine, params, mode="preempt") as session:
        session.prompt(PROMPT)
        list(session)
        first = session.tokens
        session.append(addition)
        list(session)
        second = session.tokens
    with Session(server, engine, params, mode="cloud") as whole:
        whole.prompt([*tokenizer.encode(PROMPT), *first, *addition])
        list(whole)
    assert second == whole.tokens


def test_generate_prints_one_object_and_its_process_never_imports_torch(
    server: tuple[str, int], tmp_path: Path
) -> None:
    program = (
        "import sys\n"
        "from edgespec.cli.main import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "finally:\n"
        "    assert 'torch' not in sys.modules and 'transformers' not in sys.modules, 'torch was imported'\n"
    )
    prompt = tmp_path / "prompt.txt"
    prompt.write_text(PROMPT)
    flags = ["--server", f"{server[0]}:{server[1]}", "--prompt-file", str(prompt), "--max-new-tokens", "8"]
    done = subprocess.run(
        [sys.executable, "-c", program, "generate", *flags, "--mode", "sync", "--json", "--logprobs", "3"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    report = json.loads(done.stdout)
    assert {"prompt_tokens", "tokens", "text", "finish_reason", "mode", "statistics"} <= set(report)
    names = "seconds ttft_ms rounds drafted accepted hints_sent hints_hit target_forwards bytes_up bytes_down"
    assert set(names.split()) <= set(report["statistics"])
    assert len(report["tokens"]) == 8 and report["mode"] == "sync" and report["finish_reason"] == "length"
    for token, logprob, top in zip(report["tokens"], report["logprobs"], report["top_logprobs"], strict=True):
        assert len(top) == 3 and top[str(token)] == pytest.approx(logprob), (
            "greedy: the token is the likeliest"
        )


def test_a_server_killed_in_mid_text_ends_the_session_in_one_sentence(
    process: Child, engine: DraftEngine
) -> None:
    """The last test, because it kills the server of the others."""
    link, params = LinkOptions(give_up_s=0.3), SamplingParams(max_new_tokens=500, ignore_eos=True)
    with Session(process.address, engine, params, mode="sync", link=link) as session:
        session.prompt(PROMPT)
        session.step()
        process.process.kill()
        events: list[str] = []
        with pytest.raises(EdgespecError, match=r"went away, and for 0\.3 s"):
            while True:
                events.extend(session.step().events)
        assert [event.split(" to ")[0] for event in events] == ["lost the link"]
