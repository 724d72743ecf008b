"""The loop under every stage: it resumes, accumulates, and says in one sentence why it ended early."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from edgespec.core.errors import EdgespecError
from edgespec.train import loop
from edgespec.train.packing import Batches, Stream
from edgespec.train.stage import rate_share, window
from edgespec.train.target import Shape, TargetStage, build

TINY = Shape(layers=3, width=32, heads=2, key_value_heads=1, inner=48, context=64, vocabulary=512)
TINIER = Shape(layers=1, width=16, heads=2, key_value_heads=1, inner=24, context=64, vocabulary=512)


def test_the_rate_rises_holds_and_ends_at_zero_and_windows_grow_to_the_context() -> None:
    shares = [rate_share(fraction) for fraction in np.linspace(0, 1, 101)]
    assert 0 < shares[0] < 0.1 and max(shares) == 1.0 and shares[-1] == 0.0
    assert all(later <= earlier for earlier, later in itertools.pairwise(shares[10:]))
    lengths = [window(fraction, 2048) for fraction in (0.0, 0.5, 0.7, 0.95)]
    assert lengths == [512, 512, 1024, 2048]


def _tiny_stage(shape: Shape = TINY) -> TargetStage:
    tokens = np.random.default_rng(0).integers(0, shape.vocabulary, 4000).astype(np.int32)
    return TargetStage(build(shape, 0, [0]), Batches(Stream.of(tokens), 128, 0), shape.context)


def test_an_interrupted_run_says_so_and_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    budget = loop.Budget(minutes=1e6, most_steps=8)
    straight = _tiny_stage()
    loop.train(straight, budget, tmp_path / "straight.pt", quiet=True)

    interrupted = _tiny_stage()
    step = interrupted.step

    def step_until_interrupted(fraction: float) -> tuple[float, int]:
        if fraction >= 0.5:
            raise KeyboardInterrupt
        return step(fraction)

    interrupted.step = step_until_interrupted  # type: ignore[method-assign]
    with pytest.raises(EdgespecError, match="interrupted after 4 steps: the same command goes on from there"):
        loop.train(interrupted, budget, tmp_path / "checkpoint.pt", quiet=True)
    resumed = _tiny_stage()
    record = loop.train(resumed, budget, tmp_path / "checkpoint.pt", quiet=True)
    assert (record.steps, record.tokens) == (8, 8 * 128)
    for name, weights in resumed.model.state_dict().items():
        torch.testing.assert_close(weights, straight.model.state_dict()[name], msg=name)


def test_a_full_disk_is_one_sentence_and_the_checkpoint_before_is_kept(tmp_path: Path) -> None:
    budget = loop.Budget(minutes=1e6, most_steps=2, checkpoint_every_s=0.0)
    (tmp_path / "checkpoint.pt").write_bytes(b"")
    (tmp_path / "checkpoint.unfinished").symlink_to("/dev/full")
    (tmp_path / "checkpoint.pt").unlink()
    with pytest.raises(
        EdgespecError, match=r"cannot be written .*: free some space and give the same command"
    ):
        loop.train(_tiny_stage(), budget, tmp_path / "checkpoint.pt", quiet=True)


def test_a_gpu_out_of_memory_is_one_sentence(tmp_path: Path) -> None:
    stage = _tiny_stage()

    def step(fraction: float) -> tuple[float, int]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    stage.step = step  # type: ignore[method-assign]
    with pytest.raises(EdgespecError, match=r"the memory is full after 0 steps: .* half of --batch-tokens"):
        loop.train(stage, loop.Budget(1.0), tmp_path / "checkpoint.pt", quiet=True)


def test_a_loss_that_is_no_number_ends_the_run_before_its_weights_are_kept(tmp_path: Path) -> None:
    stage = _tiny_stage()
    with torch.no_grad():
        next(stage.model.parameters())[0] = torch.nan
    with pytest.raises(EdgespecError, match="not a finite number at step 1"):
        loop.train(stage, loop.Budget(1e6, checkpoint_every_s=0.0), tmp_path / "checkpoint.pt", quiet=True)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_accumulated_batches_make_one_update_of_their_mean() -> None:
    tokens = np.random.default_rng(0).integers(0, TINY.vocabulary, 4000).astype(np.int32)
    both, halves = (
        TargetStage(build(TINY, 0, [0]), Batches(Stream.of(tokens), size, 0), TINY.context)
        for size in (128, 64)
    )
    halves._accumulate = 2
    (one, seen), (other, seen_too) = both.step(0.1), halves.step(0.1)
    assert seen == seen_too and one == pytest.approx(other, rel=1e-3)


def test_a_checkpoint_of_another_run_is_refused_in_one_sentence(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    budget = loop.Budget(minutes=1e6, most_steps=2, checkpoint_every_s=0.0)
    loop.train(_tiny_stage(), budget, checkpoint, quiet=True)
    with pytest.raises(EdgespecError, match="does not fit this run"):
        loop.train(_tiny_stage(TINIER), budget, checkpoint, quiet=True)
    checkpoint.write_bytes(b"half a file")
    with pytest.raises(EdgespecError, match="does not fit this run"):
        loop.train(_tiny_stage(), budget, checkpoint, quiet=True)


def test_more_steps_learn_more() -> None:
    tokens = np.tile(np.arange(40, dtype=np.int32), 200)
    stage = TargetStage(build(TINY, 0, [0]), Batches(Stream.of(tokens), 256, 0), TINY.context)
    first, _ = stage.step(0.3)
    for _ in range(30):
        last, _ = stage.step(0.3)
    assert last < first / 2
