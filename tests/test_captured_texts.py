"""All that a GPU runs, together, by its stand-ins on the CPU: captured forwards of lean layers, attention over pages,
exits that read a head of 8 bits and leave hints in cells, and `verify`. Texts are those of plain decoding."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from stubs import serving
from test_cuda_graphs import Rerun
from test_golden_texts import session

from edgespec.core.params import SamplingParams
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import DraftEngine, load_draft
from edgespec.model import backends
from edgespec.model.reference import generate
from edgespec.model.target import Target
from edgespec.server.server import Server

NEAR_TIE = 0.2
"""Where bfloat16 may round to another token beside other rows. The cases have no margin below it."""

CASES = [
    ("import os\n\n\ndef read_lines(path):\n", 5),
    ("import numpy as np\nimport", 3),
    ("class Point:\n    def __init__(self, x, y):\n", 4),
]
"""Prompts and seeds."""


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backends.ATTENTION_OF_DEVICE, "cpu", "cpu")
        patch.setitem(backends.BACKEND_OF_DEVICE, "cpu", "reference")
        target = Target.load(None, dtype="bfloat16", threads=1)
        target.use_graphs(Rerun())
        yield target


@pytest.fixture(scope="module")
def server(target: Target) -> Iterator[Server]:
    with serving(target) as one:
        yield one


@pytest.fixture(scope="module")
def engine() -> DraftEngine:
    return load_draft(bundled_engine())


def test_it_is_what_a_gpu_serves(target: Target) -> None:
    assert target.runner.lean is not None and target.runner.paged is not None
    assert target.exits is not None and target.exits.guesses is not None and target.hint_cells is not None
    assert target.exits.guesses._weight.dtype == torch.int8


@pytest.mark.parametrize("mode", ["preempt", "auto"])
def test_texts_are_those_of_plain_decoding(
    mode: str, target: Target, server: Server, engine: DraftEngine
) -> None:
    graphs, cells = target.runner.graphs, target.hint_cells
    assert graphs is not None and cells is not None
    replays = graphs._capture.replays  # type: ignore[attr-defined]
    cells.cells[:] = 0
    for prompt, seed in CASES:
        params = {"temperature": 0.7, "seed": seed, "max_new_tokens": 16}
        with session([server], engine, mode, **params) as one:
            one.prompt(prompt)
            ids = list(one.tokenizer.encode(prompt))
            list(one)
            found = one.tokens
        plain = generate(target.model, ids, SamplingParams(**params))
        assert min(plain.margins) > NEAR_TIE
        assert found == plain.tokens
    assert graphs._capture.replays > replays and not graphs.failed  # type: ignore[attr-defined]
    assert (cells.cells[..., 0].max() > 0) == (mode == "preempt")  # auto asks for no hints
