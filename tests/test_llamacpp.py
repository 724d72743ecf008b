"""Texts over llama.cpp: those with drafts and company are those of plain decoding on the same engine.

Needs edgespec[llamacpp] and a GGUF file, which EDGESPEC_GGUF names; `make llamacpp` brings both.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import pytest
from other_engines import differing, jobs, play

from edgespec.core.errors import EdgespecError

GGUF = os.environ.get("EDGESPEC_GGUF", "")
pytestmark = [
    pytest.mark.needs_torch,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not GGUF or importlib.util.find_spec("llama_cpp") is None,
        reason="needs edgespec[llamacpp] and EDGESPEC_GGUF",
    ),
]
TOKENS = int(os.environ.get("EDGESPEC_GGUF_TOKENS", "24"))


@pytest.fixture(scope="module")
def engine() -> Any:
    from edgespec.model.llamacpp.engine import LlamaCppEngine

    return LlamaCppEngine.load(GGUF, threads=1, kv_memory="96MiB", arguments={"n_ctx": 400})


@pytest.fixture(scope="module")
def prompts(engine: Any) -> list[list[int]]:
    return [[1, *range(200 + 37 * i, 220 + 37 * i)] for i in range(5)]


def test_drafted_texts_are_the_plain_ones(engine: Any, prompts: list[list[int]]) -> None:
    asked = jobs(prompts)
    plain = [play(engine, [job], TOKENS)[0] for job in asked]
    assert all(len(text) == TOKENS for text in plain)
    assert differing(play(engine, asked, TOKENS, plain), plain) == []


def test_memory_is_whole_again(engine: Any) -> None:
    assert engine.pages.used == 0


def test_the_identity_names_weights_engine_and_type(engine: Any) -> None:
    name, _, digest = engine.target_id.partition("@")
    assert "+llamacpp-" in name and len(digest) == 32


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"n_batch": 5}, "follows from"),
        ({"n_nothing": 1}, "no argument"),
        ({"n_gpu_layers": "x"}, "no argument"),
    ],
)
def test_arguments_that_it_does_not_have_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    from edgespec.model.llamacpp.engine import LlamaCppEngine

    with pytest.raises(EdgespecError, match=sentence):
        LlamaCppEngine.load(GGUF, arguments=arguments)


def test_a_target_that_is_no_gguf_file_is_refused(tmp_path: Any) -> None:
    from edgespec.model.llamacpp.engine import LlamaCppEngine

    for target, sentence in (
        (None, "needs a GGUF file"),
        (tmp_path, "0 GGUF files"),
        ("x.bin", "no GGUF file"),
    ):
        with pytest.raises(EdgespecError, match=sentence):
            LlamaCppEngine.load(target)
    (tmp_path / "a.gguf").write_bytes(b"GGUF nothing")
    with pytest.raises(EdgespecError, match="cannot read"):
        LlamaCppEngine.load(tmp_path)
