"""A device with little memory: the engine is refused in a sentence, before the kernel ends the process."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgespec.core import memory
from edgespec.core.errors import EdgespecError
from edgespec.core.memory import available_memory_bytes
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 3 MiB left, in no group with a limit."""
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    (tmp_path / "meminfo").write_text("MemTotal: 4000000 kB\nMemAvailable:   3072 kB\n")
    return tmp_path


@pytest.mark.usefixtures("machine")
def test_an_engine_that_does_not_fit_is_refused() -> None:
    with pytest.raises(
        EdgespecError, match=r"needs \d+ MiB, and this device has 3 MiB left: end other programs"
    ):
        load_draft(bundled_engine())


def test_a_service_has_what_its_limit_leaves(machine: Path) -> None:
    (machine / "memory.max").write_text("2097152\n")
    (machine / "memory.current").write_text("1572864\n")
    (machine / "memory.stat").write_text("active_file 4096\ninactive_file 524288\n")
    assert available_memory_bytes() == 1 << 20


def test_a_group_without_a_limit_has_what_the_machine_has(machine: Path) -> None:
    (machine / "memory.max").write_text("max\n")
    (machine / "memory.current").write_text("1572864\n")
    (machine / "memory.stat").write_text("inactive_file 524288\n")
    assert available_memory_bytes() == 3 << 20


def test_a_machine_that_says_nothing_counts_as_half_free(machine: Path) -> None:
    (machine / "meminfo").unlink()
    assert available_memory_bytes() > 1 << 20
