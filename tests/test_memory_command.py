"""`edgespec memory`, and the options of the commands that use one."""

from pathlib import Path

import pytest

from edgespec.cli.main import main
from edgespec.cli.options import Remembering
from edgespec.core.errors import EdgespecError
from edgespec.edge.memory import Memory
from edgespec.edge.memory_folder import default_folder


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def test_status_says_how_much_and_clear_deletes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Memory(tmp_path).texts("target@1", bytes(32), 100).add([1, 2, 3])
    assert run("memory", "status", "--memory", str(tmp_path)) == 0
    assert "1 texts, 3 tokens" in capsys.readouterr().out
    assert run("memory", "clear", "--memory", str(tmp_path)) == 0
    assert run("memory", "status", "--memory", str(tmp_path)) == 0
    assert "nothing is remembered" in capsys.readouterr().out


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("memory", "status", "--memory", str(tmp_path / "none")) == 0
    assert "nothing is remembered" in capsys.readouterr().out


def test_it_is_on_unless_turned_off_and_lies_where_state_lies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    opened = Remembering().open()
    assert opened is not None and opened.folder == default_folder() == tmp_path / "edgespec" / "memory"
    assert Remembering(no_memory=True).open() is None
    assert Remembering().open("device") is None


@pytest.mark.parametrize(("no_memory", "mode"), [(True, "auto"), (False, "device")])
def test_a_folder_that_could_not_be_used_is_refused(tmp_path: Path, no_memory: bool, mode: str) -> None:
    with pytest.raises(EdgespecError, match="--memory and"):
        Remembering(tmp_path, no_memory).open(mode)


def test_two_options_that_exclude_each_other_end_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--memory", str(tmp_path), "--no-memory", "--prompt", "x")
    assert run("generate", *options) == 2
    assert "exclude each other" in capsys.readouterr().err
