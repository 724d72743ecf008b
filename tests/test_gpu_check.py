"""The checks of a GPU, asked of the CPU: its own backends pass, Triton's pass in the interpreter, others fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from click.testing import CliRunner
from kernel_backends import BACKENDS
from test_cuda_graphs import Rerun

from edgespec.bench import gpu_check, hint_delay
from edgespec.bench.gpu_check import Place
from edgespec.cli import main as cli
from edgespec.core.errors import EdgespecError
from edgespec.model.target import Target

HERE = torch.device("cpu")


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_kernels_pass(backend: str) -> None:
    place = Place(HERE, backend)
    assert "1" in gpu_check.exit_heads_agree(place, 97, 32)
    assert "24" in gpu_check.verdicts_agree(place, 97, 6)
    assert "host" in gpu_check.cells_agree(place)


def test_paths_are_followed_in_the_cells_that_are_compared() -> None:
    assert "paths of [1, 1, 1, 1] nodes" in gpu_check.cells_agree(Place(HERE, "cpu"))


def test_captured_forwards_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target.load(dtype="float32", threads=1)
    target.use_graphs(Rerun())
    assert "say the CPU's text" in gpu_check.texts_agree(Target.load(dtype="float32", threads=1), target, 16)


def test_a_kernel_that_says_something_else_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    right = gpu_check.exit_head

    def wrong(*given: Any, backend: str, **named: Any) -> Any:
        scores = right(*given, **named, backend="cpu")
        if backend == "wrong":
            scores.tokens[0] += 1
            scores.margins[0] = 9
        return scores

    monkeypatch.setattr(gpu_check, "exit_head", wrong)
    with pytest.raises(EdgespecError, match="names other tokens than the CPU in rows"):
        for _ in range(3):
            gpu_check.exit_heads_agree(Place(HERE, "wrong"), 97, 32)


def test_another_text_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    target, other = (Target.load(dtype="float32", threads=1) for _ in range(2))
    target.use_graphs(Rerun())
    with torch.inference_mode():
        other.model.get_output_embeddings().weight.mul_(-1)
    other.runner.decoder = None
    with pytest.raises(EdgespecError, match="another token than the CPU at 0 of 4"):
        gpu_check.texts_agree(other, target, 4)


def test_a_delay_is_that_of_hints_that_came(monkeypatch: pytest.MonkeyPatch) -> None:
    hint_delay.hint_delay_us(HERE, "cpu", runs=5)
    monkeypatch.setattr(hint_delay, "exit_hint", lambda *_, **__: None)
    monkeypatch.setattr(hint_delay, "HINT_WITHIN_S", 0.01)
    with pytest.raises(EdgespecError, match="the hint of forward 2 did not come"):
        hint_delay.hint_delay_us(HERE, "cpu", runs=5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_command_says_so() -> None:
    result = CliRunner().invoke(cli.edgespec, ["kernels", "check"])
    assert result.exit_code != 0
    assert "torch finds no CUDA GPU here" in result.output + str(result.exception)
