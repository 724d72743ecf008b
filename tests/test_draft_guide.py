"""A draft held to its session's guide. The draft and the guide are scripted: no model, no llguidance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scripted_models import VOCABULARY, HashModel
from stubs import StubDraft

from edgespec.core.noise import MASKED
from edgespec.drafting.draft_guide import DraftGuide, forced_token
from edgespec.drafting.drafter import Drafter
from edgespec.drafting.loop import DraftingLoop
from edgespec.drafting.modes import policy


class After:
    """Allows what `rules` name behind a turn's last token; anything behind other tokens."""

    def __init__(self, rules: dict[int | None, set[int]]) -> None:
        self._rules = rules

    def masks(self, generated: Sequence[int], paths: Sequence[Sequence[int]]) -> NDArray[np.int32]:
        rows = np.zeros((len(paths), 32 * -(-VOCABULARY // 32)), dtype=np.uint8)
        for row, path in zip(rows, paths, strict=True):
            last = [*generated, *path][-1] if (*generated, *path) else None
            row[list(self._rules.get(last, range(VOCABULARY)))] = 1
        return np.packbits(rows, axis=1, bitorder="little").view(np.int32)


class RecordingDraft(StubDraft):
    """Keeps the noise that it is run with."""

    def run(self, piece, noise, noise_rows, inverse_temperature, decide):  # type: ignore[no-untyped-def]
        self.noise = noise if noise is None else noise[noise_rows[decide]]
        return super().run(piece, noise, noise_rows, inverse_temperature, decide)


def loop_of(prompt: list[int], drafts: int) -> DraftingLoop:
    loop = DraftingLoop(policy("sync", drafts, "latency", None))
    loop.begin(prompt, 0, 20)
    return loop


def drafter(rules: dict[int | None, set[int]], temperature: float = 0.0) -> tuple[Drafter, RecordingDraft]:
    engine = RecordingDraft(HashModel())
    guide = DraftGuide(After(rules), VOCABULARY)
    return Drafter(engine, temperature, 1, VOCABULARY, guide=guide), engine  # type: ignore[arg-type]


def test_what_the_guide_leaves_no_choice_about_is_drafted_without_running_the_draft() -> None:
    loop = loop_of([1, 2, 3], drafts=3)
    guided, engine = drafter({None: {7}, 7: {8}, 8: {9}})
    for _ in range(3):
        assert guided.run(loop) == 0
    path, node = [], 0
    while children := loop.tree[node].children:
        [(token, node)] = children.items()
        assert loop.tree[node].probability > 0.9
        path.append(token)
    assert path == [7, 8, 9] and engine.runs == 0


def test_what_the_guide_forbids_is_masked_in_each_rows_own_noise() -> None:
    for temperature in (0.0, 0.8):
        loop = loop_of([1, 2, 3], drafts=1)
        guided, engine = drafter({None: {4, 5}}, temperature)
        assert guided.run(loop) == 1
        [noise] = engine.noise
        assert np.flatnonzero(noise > MASKED / 2).tolist() == [4, 5]
        assert (noise[[4, 5]] == 0).all() == (temperature == 0)


def test_a_draft_without_a_guide_is_run_without_a_mask() -> None:
    engine = RecordingDraft(HashModel())
    assert Drafter(engine, 0.0, 1, VOCABULARY).run(loop_of([1, 2, 3], drafts=1)) == 1  # type: ignore[arg-type]
    assert engine.noise is None


def test_a_choice_is_not_forced() -> None:
    assert forced_token(np.array([False, True, True])) is None
    assert forced_token(np.array([False, False, True])) == 2
    assert forced_token(np.array([False, False, False])) is None
