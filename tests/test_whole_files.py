"""Files that are written whole or not at all."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from edgespec.core.whole_files import locked, whole_file


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "kept"
    file.write_bytes(b"old")
    with pytest.raises(RuntimeError), whole_file(file) as stream:
        stream.write(b"new")
        raise RuntimeError
    assert file.read_bytes() == b"old" and list(tmp_path.iterdir()) == [file]


def test_a_private_file_is_its_users_alone_whatever_was_there(tmp_path: Path) -> None:
    file = tmp_path / "kept"
    file.write_bytes(b"old")
    file.chmod(0o644)
    with whole_file(file, private=True) as stream:
        stream.write(b"new")
    assert file.read_bytes() == b"new" and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_lock_is_had_by_one_at_a_time(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with locked(tmp_path / "lock"):
            order.append("second")

    with locked(tmp_path / "lock"):
        other = threading.Thread(target=second)
        other.start()
        other.join(0.05)
        order.append("first")
    other.join(30)
    assert order == ["first", "second"]
