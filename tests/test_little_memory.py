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
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    monkeypatch.setattr(memory, "OWN_GROUP", tmp_path / "cgroup")
    (tmp_path / "cgroup").write_text("0::/system.slice/edgespec-api.service\n")
    (tmp_path / "meminfo").write_text("MemTotal: 4000000 kB\nMemAvailable:   3072 kB\n")
    return tmp_path


@pytest.mark.usefixtures("machine")
def test_an_engine_that_does_not_fit_is_refused() -> None:
    with pytest.raises(
        EdgespecError, match=r"needs \d+ MiB, and this device has 3 MiB left: end other programs"
    ):
        load_draft(bundled_engine())


def limit(group: Path, maximum: str, stat: str = "inactive_file 524288\n") -> None:
    group.mkdir(parents=True, exist_ok=True)
    (group / "memory.max").write_text(f"{maximum}\n")
    (group / "memory.current").write_text("1572864\n")
    (group / "memory.stat").write_text(stat)


@pytest.mark.parametrize("group", ["", "system.slice", "system.slice/edgespec-api.service"])
def test_a_container_a_slice_and_a_service_have_what_their_limit_leaves(machine: Path, group: str) -> None:
    limit(machine / "system.slice/edgespec-api.service", "max")
    limit(machine / "user.slice", "1572864")
    limit(machine / group, "2097152", "active_file 4096\ninactive_file 524288\n")
    assert available_memory_bytes() == 1 << 20


def test_a_group_without_a_limit_has_what_the_machine_has(machine: Path) -> None:
    limit(machine, "max")
    assert available_memory_bytes() == 3 << 20


def test_a_machine_that_says_nothing_counts_as_half_free(machine: Path) -> None:
    (machine / "meminfo").unlink()
    assert available_memory_bytes() > 1 << 20
