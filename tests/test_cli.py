"""The command line's manners: one sentence on standard error, exit status 2, no traceback, nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def edgespec(*arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgespec", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serve", "--target", "/no/such/folder"], "/no/such/folder"),
        (["serve", "--port", "70000"], "70000"),
        (["serve", "--verify-pace-ms", "-1"], "-1"),
        (["generate", "--prompt", "x", "--server", "127.0.0.1:9"], "edgespec serve"),
        (["generate", "--prompt", "x", "--server", "nonsense"], "HOST:PORT"),
        (["generate"], "--prompt"),
        (["generate", "--prompt", "x", "--prompt-file", "y"], "once"),
        (["generate", "--prompt-file", "/no/such/file"], "/no/such/file"),
        (["generate", "--prompt", "x", "--mode", "fastest"], "choose one of"),
        (["generate", "--prompt", "x", "--mode", "sync", "--objective", "cost"], "only mode 'auto'"),
        (["generate", "--prompt", "x", "--objective", "cost", "--budget", "7"], "a budget is"),
        (["generate", "--prompt", "x", "--temperature", "-1"], "temperature"),
        (["generate", "--prompt", "x", "--top-p", "7"], "top_p"),
        (["generate", "--prompt", "x", "--max-new-tokens", "0"], "max_new_tokens"),
        (["generate", "--prompt", "x", "--draft", "/no/such/engine"], "/no/such/engine"),
        (["compile", "/no/such/model"], "/no/such/model"),
        (["link", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:1", "--rtt-ms", "-3"], "-3"),
        (["demo", "--modes", "cloud,fastest"], "choose one of"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_a_mistake_is_answered_with_one_sentence(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = edgespec(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("edgespec: error: ") and done.stderr.count("\n") == 1
    assert says in done.stderr


def test_a_damaged_engine_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    done = edgespec("generate", "--prompt", "x", "--draft", str(tmp_path), "--server", "127.0.0.1:9")
    assert done.returncode == 2 and str(tmp_path) in done.stderr and "Traceback" not in done.stderr


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    out = tmp_path / "engine"
    assert edgespec("compile", str(model), "--out", str(out)).returncode == 2
    assert not out.exists()


def test_the_overview_needs_no_torch() -> None:
    program = "import sys, edgespec.cli.main as c\ntry: c.main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    for command in ("serve", "generate", "chat", "compile", "link", "demo", "train"):
        assert command in done.stdout


def test_a_server_ends_cleanly_when_it_is_told_to() -> None:
    command = [sys.executable, "-m", "edgespec", "serve", "--port", "0", "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("edgespec: listening on 127.0.0.1:")
    process.terminate()
    assert process.wait(20) == 0
    assert process.communicate()[1] == ""


def test_a_port_that_is_taken_is_named() -> None:
    command = [sys.executable, "-m", "edgespec", "serve", "--port", "0", "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().rpartition(":")[2].strip()
        done = edgespec("serve", "--port", port, "--threads", "1")
        assert done.returncode == 2 and "--port" in done.stderr
    finally:
        process.terminate()
        process.wait()
