"""The command line's manners: one sentence on standard error, exit status 2, no traceback, nothing left behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from edgespec.cli.main import main

GENERATE = ("generate", "--prompt", "x")


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command says about a mistake."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr()
    assert ended.value.code == 2 and said.out == ""
    assert said.err.startswith("edgespec: error: ") and said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(
            ["serve", "--target", "/no/such/folder"], "/no/such/folder", marks=pytest.mark.needs_torch
        ),
        (["serve", "--port", "70000"], "70000"),
        (["serve", "--verify-pace-ms", "-1"], "-1"),
        ([*GENERATE, "--server", "127.0.0.1:9"], "edgespec serve"),
        ([*GENERATE, "--server", "127.0.0.1:nonsense"], "HOST:PORT"),
        (["generate"], "--prompt"),
        ([*GENERATE, "--logprobs", "3"], "give --json too"),
        ([*GENERATE, "--prompt-file", "y"], "once"),
        (["generate", "--prompt-file", "/no/such/file"], "/no/such/file"),
        ([*GENERATE, "--mode", "fastest"], "choose one of"),
        ([*GENERATE, "--mode", "sync", "--objective", "cost"], "only mode 'auto'"),
        ([*GENERATE, "--mode", "device", "--latency-ms", "9"], "--latency-ms"),
        ([*GENERATE, "--objective", "cost", "--budget", "7"], "a budget is"),
        ([*GENERATE, "--temperature", "-1"], "temperature"),
        ([*GENERATE, "--top-p", "7"], "top_p"),
        ([*GENERATE, "--max-new-tokens", "0"], "max_new_tokens"),
        ([*GENERATE, "--timeout-s", "nan"], "not a number"),
        ([*GENERATE, "--draft", "/no/such/engine"], "/no/such/engine"),
        ([*GENERATE, "--token-file", "/no/such/token"], "--server"),
        (["compile", "/no/such/model"], "/no/such/model"),
        (["link", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:1", "--rtt-ms", "-3"], "-3"),
        (["link", "--to", "127.0.0.1:1"], "--rtt-ms"),
        (["demo", "--modes", "cloud,fastest"], "choose one of"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_a_mistake_is_answered_with_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert says in complaint(capsys, *arguments)


def test_a_damaged_engine_folder_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    assert str(tmp_path) in complaint(capsys, *GENERATE, "--draft", str(tmp_path), "--server", "127.0.0.1:9")


def test_a_build_that_fails_leaves_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "engine"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    complaint(capsys, "compile", str(model), "--out", str(out))
    assert not out.exists()


def test_the_overview_needs_no_torch() -> None:
    program = "import sys, edgespec.cli.main as c\ntry: c.main(['--help'])\nfinally: assert 'numpy' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    for command in ("serve", "generate", "chat", "compile", "link", "demo", "train"):
        assert command in done.stdout


@pytest.mark.needs_torch
def test_a_taken_port_is_named_and_its_server_ends_cleanly(
    capsys: pytest.CaptureFixture[str], quick_start: tuple[str, ...]
) -> None:
    command = [*quick_start, "serve", "--port", "0", "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("edgespec: listening on 127.0.0.1:")
        port = line.rpartition(":")[2].strip()
        assert "--port" in complaint(capsys, "serve", "--port", port, "--threads", "1")
        process.terminate()
        assert process.wait(20) == 0
        assert process.communicate()[1] == ""
    finally:
        process.kill()


def test_a_missing_package_is_named_with_the_extra_that_has_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "edgespec.model.target", None)
    assert "pip install 'edgespec[server]'" in complaint(capsys, "serve", "--port", "0")
