"""The servers of all peers, each a process of its own, the emulated link before each, and the cores that each side has.

The server has two cores (it computes on one), edge and link one each, if there are four. A server that does not start
does not end the run: its peers are named with the reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.pairs import Pair
from benchmarks.peers import environments
from benchmarks.peers.clients import MODEL, Address
from edgespec.cli.child import child
from edgespec.core.errors import EdgespecError

HERE = Path(__file__).parent
SHARES = {"server": slice(0, 2), "edge": slice(2, 3), "link": slice(3, 4)}
ALLOWED = sorted(os.sched_getaffinity(0))
PINNED = len(ALLOWED) >= 4


@contextlib.contextmanager
def pinned(role: str) -> Iterator[None]:
    """Run this thread, and the processes that it starts meanwhile, on a side's cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, ALLOWED[SHARES[role]] if PINNED else before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def start(stack: contextlib.ExitStack, name: str, pair: Pair) -> Address:
    """Start the server of that name (see `roster`) until the stack ends. Raises EdgespecError."""
    with pinned("server"):
        if name == "edgespec":
            command = ["serve", "--port", "0", "--threads", "1", *pair.server_options]
            if not pair.bundled:
                command += ["--colocated-draft", str(pair.engine_folder)]
            return stack.enter_context(child(command, "starting edgespec ..."))
        if name == "transformers":
            models = [str(pair.target), str(pair.draft)]
            return stack.enter_context(_streamer([sys.executable, name, *models]))
        if name.startswith("vllm"):
            environments.versions("vllm")
            return stack.enter_context(_vllm(pair, draft=name == "vllm-draft"))
        environments.versions("llama-cpp")
        return stack.enter_context(
            _streamer([environments.python("llama-cpp"), "llama-cpp", _gguf(name, pair)])
        )


def _gguf(name: str, pair: Pair) -> str:
    """The file that this server of llama.cpp runs."""
    if name == "llama-cpp-gguf":
        return str(pair.gguf)
    kind = "bf16" if name == "llama-cpp-bf16" else "f32"
    file = str(environments.FOLDER / f"target-{kind}.gguf")
    environments.run(
        environments.python("llama-cpp"), str(HERE / "gguf_pair.py"), str(pair.target), file, kind
    )
    return file


def link(stack: contextlib.ExitStack, server: Address, rtt_ms: float) -> Address:
    """The address at which a server is reached through an emulated link, until the stack ends."""
    command = ["link", "--listen", "127.0.0.1:0", "--to", f"{server[0]}:{server[1]}", "--rtt-ms", str(rtt_ms)]
    with pinned("link"):
        return stack.enter_context(child(command, "starting the link ..."))


@contextlib.contextmanager
def _streamer(command: Sequence[str]) -> Iterator[Address]:
    python, *arguments = command
    with _process([python, str(HERE / "streamer.py"), *arguments]) as (process, log):
        while not (found := [line for line in log.read_text().splitlines() if "listening on " in line]):
            _wait(process, log)
        host, _, port = found[0].split()[-1].rpartition(":")
        yield host, int(port)


@contextlib.contextmanager
def _vllm(pair: Pair, draft: bool) -> Iterator[Address]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [environments.python("vllm"), "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--model", str(pair.target), "--served-model-name", MODEL]
    command += ["--dtype", "float32", "--max-model-len", "1024", "--max-num-seqs", "1"]
    if draft:
        speculation = {
            "method": "draft_model",
            "model": str(pair.draft),
            "num_speculative_tokens": 4,
        }
        command += ["--speculative-config", json.dumps(speculation)]
    cores = str(ALLOWED[1]) if PINNED else "nobind"
    extra = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": cores, "VLLM_NO_USAGE_STATS": "1"}
    with _process(command, **extra) as (process, log):
        while not _healthy(port):
            _wait(process, log)
        yield "127.0.0.1", port


def _healthy(port: int) -> bool:
    with contextlib.suppress(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
        return True
    return False


def _wait(process: subprocess.Popen[str], log: Path) -> None:
    """A moment. Raises EdgespecError if the process has ended."""
    if process.poll() is not None:
        raise EdgespecError(environments.telling_line(log.read_text(errors="replace")))
    time.sleep(0.2)


@contextlib.contextmanager
def _process(command: Sequence[str], **extra: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process in a group of its own, which ends as a whole; what it prints goes into the file."""
    extra |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log"
        with log.open("w") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=out, stderr=out, text=True, cwd=scratch,
                env={**os.environ, **extra}, start_new_session=True,
            )  # fmt: skip
        try:
            yield process, log
        finally:
            for signal_number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal_number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10.0)
