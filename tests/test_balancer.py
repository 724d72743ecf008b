"""Servers behind a plain balancer of bytes, which sends a session's second connection anywhere."""

from __future__ import annotations

import threading

from broken_links import PROMPT, RIGHT, SCRIPTED, TOKENS, generate
from faults import FaultProxy
from stubs import StubTarget, serving, stub_session


def test_behind_a_balancer_of_bytes_a_session_says_what_to_configure() -> None:
    go_on = threading.Event()
    target = StubTarget(SCRIPTED, before_forward=lambda: len(target.forwards) < 2 or go_on.wait(30))
    with serving(target) as first, serving(StubTarget(SCRIPTED)) as second, FaultProxy(first.port) as proxy:
        ports = iter([first.port])
        proxy.choose = lambda: next(ports, second.port)
        with stub_session(proxy.port, scripted=SCRIPTED, mode="sync", max_new_tokens=TOKENS) as one:
            one.prompt(PROMPT)
            said: list[str] = []
            while not any("reach several servers" in event for event in said):
                said += one.step(5.0).events
            go_on.set()
            generate(one)
    assert one.tokens == RIGHT
