"""A target in two shards, two processes of torchrun over gloo: what it decides is what the whole one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sharded import decided
from tiny_models import save, tiny

from edgespec.core.errors import EdgespecError
from edgespec.model.target import Target
from edgespec.model.tensor_parallel import join


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_two_shards_decide_what_the_whole_target_does(family: str, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    folder, file = save(tiny(family), tmp_path / "model"), tmp_path / "decided.json"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = Path(__file__).parent / "sharded.py"
    subprocess.run(
        [*torchrun, str(script), str(folder), str(file)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        timeout=100,
    )
    sharded = json.loads(file.read_text())
    whole = Target.load(folder, dtype="float64", device="cpu", kv_memory="8MiB")
    assert sharded["tokens"] == decided(whole)
    assert sharded["key_heads"] == whole.pool.pool_layers[0].keys.shape[1] // 2


def test_without_torchrun_a_sentence_says_how_to_start_it(
    monkeypatch: pytest.MonkeyPatch, quick_start: tuple[str, ...]
) -> None:
    import torch

    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(EdgespecError, match="torchrun --nproc-per-node"):
        join(torch.device("cpu"))
    command = [*quick_start, "serve", "--tensor-parallel", "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != "RANK"}
    process = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)
    assert process.returncode != 0
    assert "torchrun --nproc-per-node 2" in process.stderr.splitlines()[-1]


def test_without_accelerate_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(EdgespecError, match="pip install accelerate"):
        join(torch.device("cpu"))
