"""Texts over links that break, and servers that end: what the tests of resumption share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from faults import Fault, FaultProxy
from scripted_models import HashModel
from stubs import StubTarget, serving, stub_session

from edgespec.edge.link_options import LinkOptions
from edgespec.edge.session import Session
from edgespec.edge.step import Step
from edgespec.server.server import Server

PROMPT = [1, 2, 3]
SCRIPTED = HashModel(draft_right=0.7, exit_right=0.8)
TOKENS = 60
RIGHT = SCRIPTED.continuation(PROMPT, TOKENS)
MODES = ["cloud", "sync", "preempt", "stream"]
HELLO_BYTES = 150
"""No less than what a connection says before it is welcomed."""
IN_MID_TEXT = Fault(700, "cut", "down")
QUICK = LinkOptions(dead_after_s=0.3, give_up_s=10.0)


def session(*ports: int, mode: str = "sync", link: LinkOptions = QUICK, **params: Any) -> Session:
    return stub_session(*ports, scripted=SCRIPTED, mode=mode, max_new_tokens=TOKENS, params=params, link=link)


def generate(one: Session, after: int = TOKENS, happens: Callable[[], object] = lambda: None) -> list[Step]:
    """The rest of the text; something happens once, when `after` tokens are there or more."""
    steps, happened = [], False
    for step in one:
        steps.append(step)
        if len(one.tokens) >= after and not happened:
            happened = True
            happens()
    return steps


def events(steps: list[Step]) -> str:
    return "; ".join(event for step in steps for event in step.events)


@contextmanager
def prompted(
    *servers: Server, mode: str = "sync", link: LinkOptions = QUICK, **params: Any
) -> Iterator[Session]:
    """A session with these servers that has its prompt."""
    with session(*(server.port for server in servers), mode=mode, link=link, **params) as one:
        one.prompt(PROMPT)
        yield one


@contextmanager
def over_a_proxy(
    *faults: Fault,
    target: StubTarget | None = None,
    mode: str = "sync",
    link: LinkOptions = QUICK,
    **server: Any,
) -> Iterator[tuple[Session, FaultProxy]]:
    """A session that has its prompt, whose server is behind a proxy."""
    with ExitStack() as stack:
        running = stack.enter_context(serving(target or StubTarget(SCRIPTED), **server))
        proxy = stack.enter_context(FaultProxy(running.port, faults))
        one = stack.enter_context(session(proxy.port, mode=mode, link=link))
        one.prompt(PROMPT)
        yield one, proxy


def another_target() -> StubTarget:
    other = StubTarget(HashModel(seed=9))
    other.target_id = "other"
    return other


@contextmanager
def mortal(forwards: int, **options: Any) -> Iterator[Server]:
    """A server that stops by itself after `forwards` forwards."""
    target = StubTarget(
        SCRIPTED, before_forward=lambda: server.stop() if len(target.forwards) == forwards - 1 else None
    )
    with serving(target, **options) as server:
        yield server
