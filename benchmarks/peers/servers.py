"""The servers of all peers, each a process of its own on the server's cores, and the emulated link before each.

A server that does not start does not end the run: its peers are named with the reason.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.peers import environments
from benchmarks.peers.clients import MODEL, Address
from benchmarks.peers.cores import cores, pinned
from edgespec.cli.child import child
from edgespec.core.errors import EdgespecError
from edgespec.engines.bundled import bundled_engine

PAIR = bundled_engine().parent
HERE = Path(__file__).parent
START_S = 240.0


@contextlib.contextmanager
def serving(name: str) -> Iterator[Address]:
    """The server of that name: edgespec, transformers, llama-cpp, llama-cpp-bf16, vllm, or
    vllm-draft. Raises EdgespecError."""
    with contextlib.ExitStack() as stack:
        with pinned("server"):
            address = stack.enter_context(_server(name))
        yield address


@contextlib.contextmanager
def linked(server: Address, rtt_ms: float) -> Iterator[Address]:
    """The address at which a server is reached through an emulated link."""
    arguments = [
        "link",
        "--listen",
        "127.0.0.1:0",
        "--to",
        f"{server[0]}:{server[1]}",
        "--rtt-ms",
        str(rtt_ms),
    ]
    with contextlib.ExitStack() as stack:
        with pinned("link"):
            address = stack.enter_context(child(arguments, "starting the link ..."))
        yield address


def _server(name: str) -> contextlib.AbstractContextManager[Address]:
    if name == "edgespec":
        return child(["serve", "--port", "0", "--threads", "1"], "starting edgespec ...")
    if name == "transformers":
        return _streamer(sys.executable, name, PAIR / "target", PAIR / "draft")
    if name in ("llama-cpp", "llama-cpp-bf16"):
        environments.versions("llama-cpp")
        gguf = _gguf("bf16" if name.endswith("bf16") else "f32")
        return _streamer(environments.python("llama-cpp"), "llama-cpp", gguf)
    environments.versions("vllm")
    return _vllm(draft=name == "vllm-draft")


@contextlib.contextmanager
def _streamer(python: str, engine: str, target: Path, draft: Path | None = None) -> Iterator[Address]:
    command = [python, str(HERE / "streamer.py"), engine, "--target", str(target)]
    command += ["--draft", str(draft)] if draft else []
    with _process(command, {"OMP_NUM_THREADS": "1"}) as (process, errors):
        timer = threading.Timer(START_S, process.kill)
        timer.start()
        assert process.stdout is not None
        line = next((line for line in process.stdout if "listening on " in line), None)
        timer.cancel()
        if line is None:
            raise EdgespecError(_last_line(errors))
        host, _, port = line.split()[-1].rpartition(":")
        yield host, int(port)


def _gguf(kind: str) -> Path:
    """The target in llama.cpp's format, converted once."""
    file = environments.FOLDER / f"target-{kind}.gguf"
    if not file.is_file():
        fresh = file.with_suffix(".new")
        command = [
            environments.python("llama-cpp"),
            str(HERE / "gguf_pair.py"),
            str(PAIR / "target"),
            str(fresh),
            kind,
        ]
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            raise EdgespecError(f"the pair could not be converted: {ran.stderr.strip().splitlines()[-1]}")
        fresh.replace(file)
    return file


@contextlib.contextmanager
def _vllm(draft: bool) -> Iterator[Address]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = ("127.0.0.1", int(free.getsockname()[1]))
    command = [environments.python("vllm"), "-m", "vllm.entrypoints.openai.api_server", "--host", address[0]]
    command += ["--port", str(address[1]), "--model", str(PAIR / "target"), "--served-model-name", MODEL]
    command += ["--dtype", "float32", "--max-model-len", "1024", "--max-num-seqs", "1"]
    if draft:
        speculation = f'{{"method": "draft_model", "model": "{PAIR / "draft"}", "num_speculative_tokens": 4}}'
        command += ["--speculative-config", speculation]
    chosen = cores("server")
    extra = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": str(max(chosen)) if chosen else "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    with _process(command, extra) as (process, errors):
        _await_health(address, process, errors)
        yield address


def _await_health(address: Address, process: subprocess.Popen[str], errors: Path) -> None:
    until_s = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < until_s:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://{address[0]}:{address[1]}/health", timeout=5).close()
            return
        time.sleep(0.5)
    raise EdgespecError(
        _last_line(errors) if process.poll() is not None else f"it did not start in {START_S:g} s."
    )


@contextlib.contextmanager
def _process(
    command: Sequence[str], extra: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process in a group of its own, which ends as a whole; what it says of errors goes into the file."""
    with tempfile.TemporaryDirectory() as scratch:
        errors = Path(scratch) / "errors"
        with errors.open("w") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if "streamer.py" in command[1] else log,
                stderr=log,
                text=True,
                cwd=scratch,
                env={**os.environ, **extra},
                start_new_session=True,
            )
        try:
            yield process, errors
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal_number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10.0)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _last_line(errors: Path) -> str:
    lines = [line.strip() for line in errors.read_text(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if "Error" in line]
    return (telling or lines or ["it ended without a word."])[-1][:300]
