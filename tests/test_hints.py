"""The hints of an exit, by the kernel, beside the verifier's own walk in Python."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edgespec.core.calibration import Calibration
from edgespec.core.errors import EdgespecError
from edgespec.core.messages import Block
from edgespec.core.params import SamplingParams
from edgespec.core.server_options import ServerOptions
from edgespec.core.slots import Piece
from edgespec.core.tree import COMMITTED_BIT
from edgespec.kernels.data import Curves
from edgespec.model.hints import ListenedRows
from edgespec.model.target_engine import ForwardRequest
from edgespec.verifying.forward_hints import ForwardHints
from edgespec.verifying.verifier import PlannedRows, Verifier, VerifierLimits

PROMPT = [1, 2, 3]
VOCABULARY = 4
CALIBRATION = Calibration(
    {
        0.0: ((np.array([0.0, 1.0, 4.0]), np.array([0.3, 0.6, 0.95])),),
        0.8: ((np.array([0.0, 2.0]), np.array([0.1, 1.0])),),
    }
)
CURVES = Curves.of(CALIBRATION)


def random_session(random: np.random.Generator, nodes: int) -> tuple[Verifier, PlannedRows]:
    """A session with a random tree of at most `nodes` nodes, and its forward."""
    verifier = Verifier(PROMPT, 50, ServerOptions(hint_threshold=0.05), VerifierLimits(200))
    root = COMMITTED_BIT | len(PROMPT)
    parents = [root, *(int(random.integers(0, node)) or root for node in range(2, nodes + 1))]
    verifier.receive(Block(1, random.integers(0, VOCABULARY, nodes).tolist(), parents, [0.5] * nodes))
    return verifier, verifier.plan()


def part_of(forward: PlannedRows, temperature: float = 0.0) -> ForwardRequest:
    return ForwardRequest(
        cast(Any, None), forward.piece, forward.decide, SamplingParams(temperature=temperature), 0
    )


def test_hints_are_those_that_the_verifier_reads_itself() -> None:
    random = np.random.default_rng(5)
    paths = 0
    for _ in range(60):
        sessions = [random_session(random, int(random.integers(1, 12))) for _ in range(3)]
        temperatures = random.choice([0.0, 0.7, 1.3], 3)
        parts = [part_of(forward, t) for (_, forward), t in zip(sessions, temperatures, strict=True)]
        counts = [len(part.decide) for part in parts]
        tokens = random.integers(0, VOCABULARY, sum(counts)).astype(np.int32)
        margins = random.exponential(2, sum(counts)).astype(np.float32)
        hints = ListenedRows.of(parts).hints(tokens, margins, CURVES)
        splits = np.cumsum(counts)[:-1]
        each = zip(
            sessions, temperatures, hints, np.split(tokens, splits), np.split(margins, splits), strict=True
        )
        for (verifier, forward), temperature, hint, own_tokens, own_margins in each:
            got = ForwardHints(verifier, forward)(hint.path, hint.token, hint.confidence)
            probabilities = CALIBRATION.probability(own_margins, temperature)
            reference = ForwardHints(verifier, forward)
            want = reference.of_decisions(own_tokens.tolist(), probabilities.tolist())
            if want is None:
                assert got is None
                continue
            assert got is not None
            assert (got.base_length, got.reference, got.token) == (
                want.base_length,
                want.reference,
                want.token,
            )
            assert got.confidence == pytest.approx(want.confidence, rel=1e-5)
            paths += bool(hint.path)
    assert paths > 20


def test_a_row_that_is_no_number_gives_no_hint() -> None:
    verifier, forward = random_session(np.random.default_rng(1), 4)
    rows = len(forward.decide)
    tokens, margins = np.full(rows, -1, np.int32), np.full(rows, np.nan, np.float32)
    hint = ListenedRows.of([part_of(forward)]).hints(tokens, margins, CURVES)[0]
    assert (hint.path, hint.token, hint.confidence) == ([], -1, 0)
    assert ForwardHints(verifier, forward)(hint.path, hint.token, hint.confidence) is None


def test_rows_that_are_no_tree_are_refused() -> None:
    piece = SimpleNamespace(among=np.eye(2, dtype=np.bool_), tokens=np.zeros(2, np.int32))
    part = ForwardRequest(cast(Any, None), cast(Piece, piece), np.arange(2), SamplingParams(), 0)
    with pytest.raises(EdgespecError, match="parents"):
        ListenedRows.of([part])
