"""`edgespec gpu-check` on the CPU, small: every step runs and is kept, and a run goes on where it broke."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from edgespec.cli.gpu_check import gpu_check
from edgespec.core.errors import EdgespecError
from edgespec.kernels.cost_limits import MOST_EXITS_SHARE
from edgespec.model.gpu_check.place import Place, Row
from edgespec.model.gpu_check.run import STEPS, run

CPU = torch.device("cpu")
QUICK = {name: step for name, step in STEPS.items() if name != "compiled"}
"""torch.compile takes long on a CPU."""


def test_every_step_runs_on_a_cpu(tmp_path: Path) -> None:
    file, said = tmp_path / "check.json", []
    assert run(CPU, file, False, lambda step, row: said.append((step, row)), QUICK) == 0, said
    found = json.loads(file.read_text())
    assert found["hardware"] == "CPU" and found["torch"] == torch.__version__
    assert list(found["steps"]) == list(QUICK)
    rows = {name: step["rows"] for name, step in found["steps"].items()}
    assert [row["what"] for row in rows["texts"]] == ["text", "text"]
    assert {(row["slots"], row["rows"]) for row in rows["forward"]} == {(64, 1), (64, 8), (192, 1), (192, 8)}
    assert len(rows["verify"]) == 12 and all(row["us"] > 0 for row in rows["verify"])
    kernels = {(row["what"].split(",")[0].split(" ")[0], row["dtype"]) for row in rows["kernels"]}
    named = "exit_head", "verify", "tree_attention", "residual_norm", "rotary_write", "gated"
    assert kernels == {(name, dtype) for name in named for dtype in ("float32", "bfloat16")}
    assert sum("exit_head of 8 bits" in row["what"] for row in rows["kernels"]) == 3
    assert rows["nodes"][0]["a_layer"] > 0 and [row["sessions"] for row in rows["host"]] == [1, 8]
    assert [row["target"] for row in rows["exits"]] == [MOST_EXITS_SHARE]
    assert rows["attention"][0]["skipped"] == "flashinfer needs a GPU" and len(rows["attention"]) == 9
    assert "skipped" in rows["sanitizer"][0]


def step(rows: list[Row], calls: list[str], error: Exception | None = None) -> Any:
    def run_it(place: Place) -> Iterator[Row]:
        calls.append(place.name)
        yield from rows
        if error is not None:
            raise error

    return run_it


def test_a_step_that_fails_is_named_and_the_others_run(tmp_path: Path) -> None:
    file, calls = tmp_path / "check.json", []
    kept = []
    steps = {
        "first": step([{"us": 1.0}], calls),
        "second": step([{"us": 2.0}], calls, RuntimeError("CUDA error: an illegal memory access\nmore")),
        "third": step([], calls),
    }
    assert run(CPU, file, False, lambda name, row: kept.append((name, file.exists())), steps) == 1
    assert ("second", True) in kept and ("first", False) in kept  # the file is there after the first step
    found = json.loads(file.read_text())["steps"]
    assert found["second"] == {
        "failed": "RuntimeError: CUDA error: an illegal memory access",
        "before": [{"us": 2.0}],
    }
    calls.clear()
    assert run(CPU, file, True, lambda name, row: None, {**steps, "second": step([{"us": 3.0}], calls)}) == 0
    assert calls == ["CPU"]  # the one that had failed
    assert json.loads(file.read_text())["steps"]["second"]["rows"] == [{"us": 3.0}]


@pytest.mark.parametrize("content", ["", "{}", '{"hardware": "H100", "steps": {}}'])
def test_another_machines_file_is_not_gone_on_with(content: str, tmp_path: Path) -> None:
    file = tmp_path / "check.json"
    file.write_text(content)
    with pytest.raises(EdgespecError, match="of another machine or other versions: leave --resume off"):
        run(CPU, file, True, lambda name, row: None, {})
    assert file.read_text() == content


def test_the_command_refuses_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "name it with --json" in str(
        CliRunner().invoke(gpu_check, ["--device", "cpu", "--resume"]).exception
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA device here" in str(CliRunner().invoke(gpu_check, []).exception)
