"""Exit heads: what is saved is what is loaded, rows are the stated function, and damage is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from edgespec.core.calibration import Calibration
from edgespec.core.errors import EdgespecError
from edgespec.model.exits import MANIFEST_FILE, WEIGHTS_FILE, ExitHead, ExitHeads

WIDTH, RANK = 16, 4


def made(layers: tuple[int, ...] = (2, 5)) -> ExitHeads:
    generator = torch.Generator().manual_seed(0)
    margins = np.linspace(0.0, 5.0, 100)
    heads = {
        layer: ExitHead(
            down=torch.randn(RANK, WIDTH, generator=generator),
            up=torch.randn(WIDTH, RANK, generator=generator),
            norm=torch.rand(WIDTH, generator=generator) + 0.5,
            calibration=Calibration.fit({0.8: margins}, {0.8: margins > 1 / layer}),
        )
        for layer in layers
    }
    return ExitHeads(heads, norm_epsilon=1e-5, vocabulary_size=99, target_sha256="ab")


def test_save_and_load_keep_every_weight_and_calibration(tmp_path: Path) -> None:
    heads = made()
    heads.save(tmp_path)
    loaded = ExitHeads.load(tmp_path)
    assert loaded.layers == (2, 5)
    assert (loaded.rank, loaded.hidden_size, loaded.vocabulary_size) == (RANK, WIDTH, 99)
    assert (loaded.norm_epsilon, loaded.target_sha256) == (1e-5, "ab")
    margins = np.array([0.1, 0.4, 3.0], dtype=np.float32)
    for layer in heads.layers:
        for part in ("down", "up", "norm"):
            assert torch.equal(getattr(loaded.heads[layer], part), getattr(heads.heads[layer], part))
        np.testing.assert_allclose(
            loaded.calibration(layer).probability(margins, 0.8),
            heads.calibration(layer).probability(margins, 0.8),
            atol=1e-4,
        )


def test_load_converts_to_the_type_asked_for(tmp_path: Path) -> None:
    made().save(tmp_path)
    loaded = ExitHeads.load(tmp_path, torch.float64)
    rows = loaded.rows(2, torch.ones(3, WIDTH, dtype=torch.float64))
    assert rows.dtype == torch.float64 and rows.shape == (3, WIDTH)


def test_rows_are_adapter_then_norm() -> None:
    heads = made()
    hidden = torch.randn(7, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    head = heads.heads[5]
    for part in ("down", "up", "norm"):
        setattr(head, part, getattr(head, part).double())
    inner = hidden.numpy() @ head.down.numpy().T
    adapted = hidden.numpy() + (inner / (1 + np.exp(-inner))) @ head.up.numpy().T
    expected = adapted / np.sqrt((adapted**2).mean(-1, keepdims=True) + 1e-5) * head.norm.numpy()
    np.testing.assert_allclose(heads.rows(5, hidden).numpy(), expected, atol=1e-12)


def test_an_adapter_of_zeros_leaves_the_plain_norm() -> None:
    heads = made()
    heads.heads[2].up = torch.zeros(WIDTH, RANK)
    heads.heads[2].norm = torch.ones(WIDTH)
    hidden = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(2))
    norm = torch.nn.RMSNorm(WIDTH, eps=1e-5)
    torch.testing.assert_close(heads.rows(2, hidden), norm(hidden).detach())


def _edit(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    (folder / MANIFEST_FILE).write_text(json.dumps({**manifest, **changes}))


def test_each_kind_of_damage_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match=rf"holds no {MANIFEST_FILE}"):
        ExitHeads.load(tmp_path)
    made().save(tmp_path)
    whole = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def refused() -> None:
        with pytest.raises(EdgespecError, match=r"cannot be used, .*: train or copy them again\.$"):
            ExitHeads.load(tmp_path)
        for name, data in whole.items():
            (tmp_path / name).write_bytes(data)

    (tmp_path / WEIGHTS_FILE).write_bytes(whole[WEIGHTS_FILE][:-1] + b"\x01")
    refused()
    (tmp_path / WEIGHTS_FILE).unlink()
    refused()
    (tmp_path / MANIFEST_FILE).write_text("{")
    refused()
    damages: tuple[dict[str, object], ...] = (
        {"version": 99},
        {"layers": [2, 7]},
        {"layers": []},
        {"rank": RANK + 1},
        {"hidden_size": 8},
        {"norm_epsilon": "small"},
    )
    for changes in damages:
        _edit(tmp_path, **changes)
        refused()
    assert ExitHeads.load(tmp_path).layers == (2, 5)


def test_importing_calibration_imports_no_torch() -> None:
    check = "import sys, edgespec.core.calibration; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
