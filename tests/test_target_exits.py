"""Exit taps: when they report, what they decide, whose heads they take; and paces that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_models import SIZE, VOCABULARY, forward_one, one_piece, refusal, save, tiny

from edgespec.core.calibration import Calibration
from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.model.exits import ExitHead, ExitHeads, weights_sha256
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.target import Target
from edgespec.model.target_engine import Decisions, ExitRows, ForwardRequest, OnExit

ROWS = np.arange(4, 8)
SAMPLED = SamplingParams(temperature=0.8)
PLAIN = Calibration({0.8: ((np.array([0.0, 4.0]), np.array([0.1, 0.9])),)})


class PlainExits:
    """Exit heads that hand the hidden rows to the LM head as they are."""

    def __init__(self, *layers: int) -> None:
        self.layers = layers

    def rows(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        return hidden

    def calibration(self, layer: int) -> Calibration:
        return PLAIN


def run(
    target: Target,
    on_exit: OnExit | None = None,
    sampling: SamplingParams = SAMPLED,
    seed: int = 1,
    rows: NDArray[np.int64] = ROWS,
    exit_layers: Sequence[int] | None = None,
) -> Decisions:
    return forward_one(target, target.open_cache(64), one_piece(), rows, sampling, seed, on_exit, exit_layers)


def with_exits(model: Any, *layers: int) -> Target:
    return Target(LoadedModel(model, "tiny", bytes(32)), exits=PlainExits(*layers))


def test_exits_report_in_order_before_deeper_layers_run() -> None:
    target = with_exits(tiny(), 3, 1)
    assert target.exit_layers == (1, 3)
    events: list[str] = []
    for index, layer in enumerate(target.model.decoder_layers):
        layer.register_forward_pre_hook(lambda *_, number=index + 1: events.append(f"layer {number}"))
    run(target, lambda rows: events.append(f"exit {rows.layer}"))
    assert events == ["layer 1", "exit 1", "layer 2", "layer 3", "exit 3", "layer 4"]


@pytest.mark.parametrize("family", ["llama", "gemma2", "granite", "cohere"])
def test_an_exit_decides_as_the_model_cut_off_there_would(family: str) -> None:
    model = tiny(family)
    norm = model.get_decoder().norm
    exits = PlainExits(2)
    exits.rows = lambda layer, hidden: norm(hidden)  # type: ignore[method-assign]
    target = Target(LoadedModel(model, "tiny", bytes(32)), exits=exits)
    seen: list[ExitRows] = []
    run(target, seen.append, SamplingParams(temperature=0.8, top_k=2), 9)

    del model.get_decoder().layers[2:]
    model.config.num_hidden_layers = 2
    cut = Target(LoadedModel(model, "cut", bytes(32)))
    expected = run(cut, seed=9)
    assert seen[0].tokens.tolist() == expected.tokens.tolist()
    np.testing.assert_allclose(seen[0].margins, expected.margins, atol=1e-5)


def test_exits_are_silent_unless_asked() -> None:
    target = with_exits(tiny(), 1, 2)
    seen: list[int] = []
    with_exit = run(target, lambda rows: seen.append(rows.layer), exit_layers=[2])
    without = run(target)
    run(target, lambda rows: seen.append(rows.layer), rows=ROWS[:0])
    assert seen == [2]
    assert with_exit.tokens.tolist() == without.tokens.tolist()


def test_an_error_in_a_callback_ends_the_forward_and_nothing_else() -> None:
    target = with_exits(tiny(), 1)

    def fail(rows: ExitRows) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        run(target, fail)
    run(target)


def test_exits_for_another_target_are_refused() -> None:
    with pytest.raises(EdgespecError, match="another target"):
        with_exits(tiny(), 2, 4)


def test_a_paced_target_holds_its_exits_and_its_end() -> None:
    reached: list[Any] = []

    class RecordingPace:
        def begin(self, rows: int) -> None:
            reached.append(("begin", rows))

        def reach(self, fraction: float) -> None:
            reached.append(fraction)

        def end(self) -> None:
            reached.append("end")

    pace: Any = RecordingPace()
    target = Target(LoadedModel(tiny(), "tiny", bytes(32)), PlainExits(1, 3), pace=pace)
    run(target, lambda rows: reached.append(rows.layer))
    assert reached == [("begin", 8), 0.25, 1, 0.75, 3, "end"]


def exit_heads(folder: Path, target_folder: Path, width: int = SIZE["hidden_size"]) -> Path:
    """Random exit heads after layers 1 and 3, saved as if trained for the target in that folder."""
    random = torch.Generator().manual_seed(11)
    margins = np.linspace(0, 4, 200)
    calibration = Calibration.fit({0.8: margins}, {0.8: margins > 1})

    def head() -> ExitHead:
        down = torch.randn(5, width, generator=random)
        up = torch.randn(width, 5, generator=random)
        return ExitHead(down, up, torch.ones(width), calibration)

    ExitHeads({1: head(), 3: head()}, 1e-6, VOCABULARY, weights_sha256(target_folder)).save(folder)
    return folder


def test_exit_heads_beside_the_model_are_found_and_hint_with_calibrated_probabilities(tmp_path: Path) -> None:
    folder = save(tiny(), tmp_path)
    exit_heads(folder / "exits", folder)
    target = Target.load(folder, dtype="float64")
    assert target.exit_layers == (1, 3)
    seen: list[ExitRows] = []
    run(target, seen.append)
    calibration = ExitHeads.load(folder / "exits").calibration(3)
    assert [rows.layer for rows in seen] == [1, 3]
    piece = one_piece()
    expected, row = 1.0, 0  # rows 4 to 7 are one after the other
    while True:
        expected *= calibration.probability(seen[1].margins[row], 0.8)
        if row == 3 or seen[1].tokens[row] != piece.tokens[4 + row + 1]:
            break
        row += 1
    assert (seen[1].guess.path, seen[1].guess.token) == (list(range(1, row + 1)), seen[1].tokens[row])
    assert seen[1].guess.confidence == pytest.approx(expected, rel=1e-5)
    assert Target.load(folder, exits=None).exit_layers == ()


def test_exit_heads_of_another_target_are_refused(tmp_path: Path) -> None:
    folder = save(tiny(), tmp_path / "one")
    other = save(tiny("gemma3"), tmp_path / "other")
    assert "another target" in refusal(folder, exits=exit_heads(tmp_path / "of other", other))
    assert "another target" in refusal(folder, exits=exit_heads(tmp_path / "wide", folder, width=24))


def guesses_of(target: Target, rows: int) -> list[ExitRows]:
    """What the exits say of two sessions, one sampled and one greedy, that share a forward."""
    seen: list[ExitRows] = []
    pieces = [(SamplingParams(temperature=0.8, top_k=2), 9), (SamplingParams(), 0)]
    target.forward_batch(
        [
            ForwardRequest(
                target.open_cache(64), one_piece(), np.arange(8 - rows, 8), sampling, seed, seen.append
            )
            for sampling, seed in pieces
        ]
    )
    return seen


@pytest.mark.parametrize("family", ["llama", "gemma2", "granite", "cohere"])
@pytest.mark.parametrize(("dtype", "rows"), [("float32", 6), ("bfloat16", 4)])
def test_exits_guess_by_the_kernel_what_they_guess_in_torch(
    family: str, dtype: str, rows: int, tmp_path: Path
) -> None:
    folder = save(tiny(family), tmp_path)
    exit_heads(folder / "exits", folder)
    target = Target.load(folder, dtype=dtype)
    assert target.exits.guesses is not None and target.exits.guesses.pay(2 * rows)
    by_kernel = guesses_of(target, rows)
    target.exits.guesses = None
    in_torch = guesses_of(target, rows)
    assert [one.layer for one in by_kernel] == [1, 1, 3, 3] == [one.layer for one in in_torch]
    bound = 1e-4 if dtype == "float32" else 0.1
    for got, want in zip(by_kernel, in_torch, strict=True):
        alike = got.tokens == want.tokens
        assert np.all(want.margins[~alike] <= bound)
        assert np.count_nonzero(alike) >= rows - 1
        np.testing.assert_allclose(got.margins[alike], want.margins[alike], atol=bound)


@pytest.mark.parametrize(("dtype", "taken"), [("float32", True), ("float64", False)])
def test_exits_that_the_kernel_does_not_fit_guess_in_torch(dtype: str, taken: bool, tmp_path: Path) -> None:
    folder = save(tiny(), tmp_path)
    exit_heads(folder / "exits", folder)
    target = Target.load(folder, dtype=dtype)
    assert (target.exits.guesses is not None) == taken
    assert len(guesses_of(target, 2)) == 4


def test_an_exit_that_overflows_ends_no_text(tmp_path: Path) -> None:
    folder = save(tiny(), tmp_path)
    exit_heads(folder / "exits", folder)
    target = Target.load(folder, dtype="float32")
    target.exits.exits.heads[1].up.fill_(float("nan"))  # type: ignore[union-attr]
    said = guesses_of(target, 2)
    assert said[0].tokens.tolist() == [-1, -1] and said[0].guess.token == -1
    assert np.isfinite(said[2].margins).all() and said[2].guess.token >= 0
