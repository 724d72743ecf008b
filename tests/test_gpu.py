"""What only a GPU can show, as `edgespec kernels check` does: `pytest -m gpu tests/test_gpu.py` where there is one."""

from __future__ import annotations

import pytest
import torch

from edgespec.bench import gpu_check

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU here"),
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(4), ids=["exit_head", "verify", "cells", "graphs"])
def test_the_gpu_says_what_the_cpu_says(number: int) -> None:
    assert list(gpu_check.all_checks(gpu_check.Place.gpu()))[number]()
