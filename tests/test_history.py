"""Random breakage in mid-text, a server killed among it: the texts are right, and nothing was executed twice.

EDGESPEC_KILLS=1000 pytest tests/test_history.py    # a long run; the seed is EDGESPEC_SEED
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from faults import FaultProxy
from scripted_models import HashModel
from stubs import stub_session

from edgespec.edge.link_options import LinkOptions

KILLS = int(os.environ.get("EDGESPEC_KILLS", "12"))
SEED = int(os.environ.get("EDGESPEC_SEED", "1"))
SCRIPTED = HashModel(draft_right=0.7, exit_right=0.8)
TOKENS = 60
MODES = ("cloud", "sync", "preempt", "stream", "auto")
FIRST_PORT = 20000
"""Below those that the system gives to connections: or one might take the server's while that is dead."""
KINDS = ("connection", "connection", "connections", "silence", "outage", "server")


class Victim:
    """A server process behind a proxy, and the ways to break them."""

    def __init__(self, log: Path) -> None:
        command = [sys.executable, str(Path(__file__).parent / "stub_server.py"), str(log)]
        self._nursery = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._port, self._server = FIRST_PORT + os.getpid() % 5000, 0
        while not self._begin():
            self._port += 1
        self.proxy = FaultProxy(self._port)

    def begin(self) -> None:
        while not self._begin():
            pass  # the one before has not quite gone

    def _begin(self) -> bool:
        assert self._nursery.stdin is not None and self._nursery.stdout is not None
        print(self._port, file=self._nursery.stdin, flush=True)
        self._server = int(self._nursery.stdout.readline())
        return self._server != 0

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # a test that fails may leave it dead
            os.kill(self._server, signal.SIGKILL)
        self._nursery.communicate(timeout=20)

    def harm(self, kind: str) -> None:
        """What is broken stays so until `mend`, or for good."""
        if kind == "connection":
            with contextlib.suppress(IndexError):  # there may be none just now
                self.proxy.cut(0)
        elif kind == "connections":
            self.proxy.cut()
        elif kind == "silence":
            self.proxy.freeze()
        elif kind == "outage":
            self.proxy.outage("refuse")
        else:
            os.kill(self._server, signal.SIGKILL)

    def mend(self, kind: str) -> None:
        if kind == "outage":
            self.proxy.recover()
        elif kind == "server":
            self.begin()


def generate(victim: Victim, rng: random.Random, mode: str) -> tuple[list[int], list[int], int]:
    """A text that is broken off now and then: what came, what should have, and how often it was broken."""
    prompt = [rng.randrange(50) for _ in range(3)]
    kills = 0
    link = LinkOptions(dead_after_s=1.0, give_up_s=30.0, hedge=rng.random() < 0.7)
    with stub_session(
        victim.proxy.port, scripted=SCRIPTED, mode=mode, max_new_tokens=TOKENS, link=link
    ) as one:
        one.prompt(prompt)
        while not one.finished:
            for _ in range(rng.randrange(1, 12)):
                one.step(timeout_s=0.02)
            if not one.finished:
                kind = rng.choice(KINDS)
                victim.harm(kind)
                one.step(timeout_s=rng.random() * 0.1)
                victim.mend(kind)
                kills += 1
        return one.tokens, SCRIPTED.continuation(prompt, TOKENS), kills


@pytest.mark.timeout(120 + 2 * KILLS)
def test_whatever_breaks_the_texts_are_right_and_nothing_is_executed_twice(tmp_path: Path) -> None:
    log = tmp_path / "executed"
    rng = random.Random(SEED)
    victim = Victim(log)
    kills = texts = 0
    try:
        with victim.proxy:
            while kills < KILLS:
                mode = MODES[texts % len(MODES)]
                came, right, broken = generate(victim, rng, mode)
                assert came == right, f"text {texts} in mode {mode}, seed {SEED}"
                kills += broken
                texts += 1
    finally:
        victim.end()
    executed = Counter(log.read_text().splitlines())
    assert len(executed) > texts
    assert [execution for execution, times in executed.items() if times > 1] == []
