"""Who takes part, and the edge's side of every peer: one prompt goes up, tokens come down, each arrival is timed.

The clock starts when the prompt is sent, on a connection that is open already, and it is the same for all: edgespec's
sessions, the streamers' lines of JSON, and vLLM's server-sent events.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.pairs import Pair
from edgespec.core.errors import EdgespecError
from edgespec.core.measurements import Measurements
from edgespec.core.params import SamplingParams
from edgespec.edge.session import Session
from edgespec.engines.draft_engine import DraftEngine

Address = tuple[str, int]
TIMEOUT_S = 60.0
MODEL = "target"
"""What vLLM's clients call it."""


@dataclass(frozen=True)
class Task:
    prompt: list[int]
    temperature: float
    seed: int
    max_new_tokens: int


@dataclass(frozen=True)
class Played:
    """arrivals: seconds after the prompt was sent, and how many tokens came then."""

    tokens: tuple[int, ...]
    arrivals: tuple[tuple[float, int], ...]

    @property
    def seconds(self) -> float:
        return self.arrivals[-1][0]


@dataclass(frozen=True)
class Peer:
    """own_noise: it samples with its own random numbers, so its texts are others than edgespec's. rounds: it computes
    in less than float32, so even its greedy texts may be others."""

    name: str
    server: str
    play: Callable[[Address, Task], Played]
    own_noise: bool = True
    rounds: bool = False


def roster(pair: Pair) -> list[Peer]:
    """Everyone, in the order of the tables; the first is what greedy texts are compared with."""
    methods = (
        "plain",
        "assistant_model",
        "assistant_model, blocks of 4",
        "assistant_early_exit",
        "prompt look-up",
    )
    peers = [Peer(f"transformers {one}", "transformers", partial(play_lines, method=one)) for one in methods]
    peers += [
        Peer("vllm plain", "vllm", play_completion),
        Peer("vllm draft model", "vllm-draft", play_completion),
    ]
    peers += [
        Peer(f"llama.cpp {one}", "llama-cpp", partial(play_lines, method=one))
        for one in ("plain", "prompt look-up")
    ]
    rounded = partial(play_lines, method="plain")
    peers.append(Peer("llama.cpp plain, bfloat16", "llama-cpp-bf16", rounded, rounds=True))
    if pair.gguf.is_file():
        for method in ("plain", "prompt look-up"):
            own_file = partial(play_lines, method=method)
            peers.append(Peer(f"llama.cpp {method}, own GGUF", "llama-cpp-gguf", own_file, rounds=True))
    for mode in ("cloud", "colocated", "sync", "preempt", "auto"):
        peers.append(Peer(f"edgespec {mode}", "edgespec", EdgespecMode(pair.engine, mode), own_noise=False))
    return peers


class EdgespecMode:
    """Plays texts in one mode, on one device: a session starts from what the last one measured in the same setting."""

    def __init__(self, engine: DraftEngine, mode: str) -> None:
        self._engine = engine
        self._mode = mode
        self._measurements: dict[tuple[Address, float], Measurements] = {}

    def __call__(self, address: Address, task: Task) -> Played:
        setting = (address, task.temperature)
        params = SamplingParams(
            temperature=task.temperature, seed=task.seed, max_new_tokens=task.max_new_tokens, ignore_eos=True
        )
        known = self._measurements.get(setting)
        with Session(address, self._engine, params, mode=self._mode, measurements=known) as session:
            start_s = time.perf_counter()
            session.prompt(task.prompt)
            played = _timed((step.tokens for step in session), start_s)
            self._measurements[setting] = session.measurements
            return played


def play_lines(address: Address, task: Task, method: str) -> Played:
    """One text of a streamer (streamer.py)."""
    with (
        socket.create_connection(address, timeout=TIMEOUT_S) as connection,
        connection.makefile("rwb") as file,
    ):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start_s = time.perf_counter()
        file.write(json.dumps({**vars(task), "method": method}).encode() + b"\n")
        file.flush()
        return _timed(_lines(file), start_s)


def play_completion(address: Address, task: Task) -> Played:
    """One text of an OpenAI-compatible server that sends token ids along (vLLM)."""
    request = {
        **vars(task),
        "model": MODEL,
        "max_tokens": task.max_new_tokens,
        "ignore_eos": True,
        "stream": True,
    }
    body = json.dumps({**request, "return_token_ids": True})
    with closing(http.client.HTTPConnection(*address, timeout=TIMEOUT_S)) as connection:
        connection.connect()
        start_s = time.perf_counter()
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        return _timed(_events(connection.getresponse()), start_s)


def _timed(blocks: Iterator[list[int]], start_s: float) -> Played:
    arrived = [(time.perf_counter() - start_s, block) for block in blocks if block]
    if not arrived:
        raise EdgespecError("the server ended the stream without a token.")
    tokens = tuple(token for _, block in arrived for token in block)
    return Played(tokens, tuple((at_s, len(block)) for at_s, block in arrived))


def _lines(file: Any) -> Iterator[list[int]]:
    for line in file:
        answer = json.loads(line)
        if "end" in answer:
            return
        yield answer["tokens"]
    raise EdgespecError("the streamer broke off in the middle of a text.")


def _events(response: http.client.HTTPResponse) -> Iterator[list[int]]:
    if response.status != 200:
        reason = response.read(300).decode(errors="replace")
        raise EdgespecError(f"the server refused ({response.status}): {reason}")
    for line in response:
        if line.startswith(b"data: {"):
            event = json.loads(line[6:])
            if "error" in event:
                raise EdgespecError(f"the server failed: {event['error']}")
            yield event["choices"][0]["token_ids"] if event["choices"] else []
