"""How long a hint takes from the end of its exit to an edge: through the mailbox, over a connection on this machine.

The time from the launch of an exit to the hint in the edge's hands, less the time from the launch to the exit's end,
each the median of many runs. Both hold the launch; the first has the watching thread, the I/O thread, loopback and the
receiver's wake-up in it, so that it is an upper bound of what the server takes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import torch

from edgespec import _native
from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.drafting.modes import policy
from edgespec.edge.connection import encoded_open
from edgespec.kernels.exit_hint import CELL_WORDS, Cells, exit_hint
from edgespec.kernels.exit_verdict import Curves, Trees

TIMEOUT_S = HINT_WITHIN_S = 10.0
VOCABULARY, WIDTH, LAYER = 2048, 64, 8
"""So small an exit that its own time does not hide what comes behind it."""

REFERENCE = np.array([_native.COMMITTED_BIT | 1], dtype=np.uint32)


def hint_delay_us(device: torch.device, backend: str, runs: int = 200) -> float:
    """Microseconds. backend: of the kernels on that device. Raises EdgespecError where a hint does not come."""
    on_gpu = device.type == "cuda"
    words = torch.zeros((2, 1, 1, CELL_WORDS), dtype=torch.int32, pin_memory=on_gpu)
    sequence = torch.zeros(1, dtype=torch.int32, device=device)
    launch = _exit(device, backend, Cells(words, sequence, 0))

    def ended() -> None:
        launch()
        if on_gpu:
            torch.cuda.synchronize()

    with _session() as (listener, connection, session):
        mailbox = _native.HintMailbox(listener, words.numpy(), [LAYER], 1)
        with closing(mailbox):
            ends: list[float] = []
            arrivals: list[float] = []
            for number in range(1, 2 * runs + 1):
                sequence.fill_(number)
                if on_gpu:
                    torch.cuda.synchronize()
                heard = number % 2 == 0
                mailbox.arm(number, [(session, 0, 1, 0, 0.0, REFERENCE)] if heard else [])
                start_s = time.perf_counter()
                if heard:
                    launch()
                    if not isinstance(connection.receive(HINT_WITHIN_S), _native.Hint):
                        raise EdgespecError(f"the hint of forward {number} did not come.")
                else:
                    ended()
                (arrivals if heard else ends).append(time.perf_counter() - start_s)
                mailbox.retire(number)
    delay_us: float = (statistics.median(arrivals) - statistics.median(ends)) * 1e6
    return delay_us


def _exit(device: torch.device, backend: str, cells: Cells) -> Callable[[], None]:
    """One row's exit, everything that it needs on the device."""
    hidden, norm, head = torch.randn(1, WIDTH), torch.ones(WIDTH), torch.randn(VOCABULARY, WIDTH)
    curves = Curves(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.1, 1.0]]), (0.0,)).on(device)

    def integers(*values: int) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int32, device=device)

    columns: dict[str, Any] = {
        "temperatures": torch.zeros(1, device=device),
        "seeds": torch.zeros(1, dtype=torch.int64, device=device),
        "positions": integers(5),
        "draft_tokens": integers(-1),
        "trees": Trees(integers(0, 1), integers(-1), integers(0)),
        "curve_of": integers(0),
    }
    weights = [part.to(device) for part in (hidden, norm, head)]
    return lambda: exit_hint(*weights, **columns, curves=curves, cells=cells, backend=backend)


@contextmanager
def _session() -> Iterator[tuple[_native.Listener, _native.Connection, int]]:
    """A session on a connection of this machine: both ends, and its number."""
    vocabulary_hash = bytes(32)
    with (
        closing(_native.Listener("127.0.0.1", 0)) as listener,
        closing(_native.Connection("127.0.0.1", listener.port, TIMEOUT_S)) as connection,
    ):
        connection.send(_native.encode_hello(vocabulary_hash=vocabulary_hash, agent="hint delay"))
        number = _event(listener, _native.Hello)
        listener.welcome(number, _welcome(vocabulary_hash), b"")
        connection.receive(TIMEOUT_S)
        sampling = SamplingParams(temperature=0.0, ignore_eos=True)
        connection.send(encoded_open(sampling, 0, policy("preempt").options, [1], max_new_tokens=1))
        yield listener, connection, _event(listener, _native.Open)


def _event(listener: _native.Listener, kind: type) -> int:
    """The number of the next event of this kind."""
    while True:
        for number, what in listener.poll(TIMEOUT_S, 1):
            if isinstance(what, kind):
                return number


def _welcome(vocabulary_hash: bytes) -> bytes:
    return _native.encode_welcome(
        version=_native.PROTOCOL_VERSION,
        features=0,
        vocabulary_hash=vocabulary_hash,
        context_length=512,
        vocabulary_size=VOCABULARY,
        layers=12,
        exit_layers=[LAYER],
        end_tokens=[],
        target_id="hint delay",
        max_frame_bytes=1 << 16,
        max_block_nodes=64,
    )
