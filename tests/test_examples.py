"""The examples run as they are, against one server, and do what they say."""

import io
import json
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stubs import serving

import edgespec

FOLDER = Path(__file__).resolve().parent.parent / "examples"
if not FOLDER.is_dir():
    pytest.skip("the examples are not here", allow_module_level=True)

PROMPT = "def read_lines(path):\n    "

Run = Callable[..., str]

pytestmark = [
    pytest.mark.needs_torch,
    pytest.mark.timeout(300),  # they start processes, which takes long on a busy machine
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    from edgespec.model.target import Target

    with serving(Target.load(None, dtype="float64", threads=1)) as one:
        yield f"127.0.0.1:{one.port}"


@pytest.fixture
def run(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs an example with the server's address and some input; returns what it printed."""

    def run(name: str, typed: str = "") -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [name, server])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def greedy(server: str, max_new_tokens: int) -> str:
    """The target's own text."""
    params = edgespec.SamplingParams(max_new_tokens=max_new_tokens, ignore_eos=True)
    with edgespec.Session(server, edgespec.bundled_engine(), params, mode="cloud") as session:
        session.prompt(PROMPT)
        list(session)
        return session.text


def test_hello_prints_the_targets_text(run: Run, server: str) -> None:
    assert run("hello").rstrip().startswith(greedy(server, 60).rstrip())


def test_a_chat_goes_on_turn_by_turn(run: Run) -> None:
    printed = run("streaming_chat", "class A:\n    def x():\n\n")
    assert printed.count("you: ") == 3 and printed.count("[length]") + printed.count("[stop]") == 2


def test_async_sessions_finish_all_texts(run: Run) -> None:
    printed = run("async_sessions")
    assert PROMPT in printed and "class Robot:" in printed and "import json" in printed


def test_offline_text_is_corrected_when_the_link_is_back(run: Run, server: str) -> None:
    printed = run("offline_and_back")
    assert "[offline" in printed and "[reconnected" in printed and "\033[2m" in printed
    assert printed.rpartition("The whole text:\n")[2] == f"{greedy(server, 60)}\n"


def test_statistics_come_with_a_timeline(run: Run, tmp_path: Path) -> None:
    printed = run("read_statistics")
    assert "tokens/s" in printed and "per token" in printed
    assert json.loads((tmp_path / "timeline.json").read_text())["traceEvents"]


def test_a_custom_policy_gives_the_same_text(run: Run) -> None:
    printed = run("custom_policy")
    assert "confident: " in printed and printed.endswith("the same text: True\n")


def test_examples_are_short_and_say_what_they_show() -> None:
    for file in FOLDER.glob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert text.startswith('"""') and text.count("\n") <= 60, file
        assert f'run("{file.stem}"' in Path(__file__).read_text(encoding="utf-8"), f"{file} is not tested"


def test_every_public_name_is_there_and_the_import_is_cheap() -> None:
    assert all(getattr(edgespec, name) is not None for name in edgespec.__all__)
    check = "import sys, edgespec; sys.exit(not {'numpy', 'torch', 'asyncio'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", check], timeout=60).returncode == 0
