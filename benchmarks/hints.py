"""What hints cost: the time from the end of an exit to an edge that holds the hint, and what exits add to a forward.

    python -m benchmarks.hints                     # small shapes on the CPU
    python -m benchmarks.hints --device cuda       # a target of Llama-2-7B's shape, random weights; needs 18 GiB

The delay goes through the mailbox and a connection on this machine: the time from the launch of an exit to the hint in
the edge's hands, less the time from the launch to the exit's end, medians of alternating runs. A forward has eight rows
behind a text of 128 tokens and three exits; forwards with hints and without take turns.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import torch

from benchmarks.kernels import on
from benchmarks.results import Results, parser
from edgespec import _native
from edgespec.core.calibration import Calibration
from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.core.slots import SlotMap
from edgespec.core.tree import ROOT, DraftTree
from edgespec.drafting.modes import policy
from edgespec.edge.connection import encoded_open
from edgespec.kernels.data import CELL_WORDS, Cells, Curves, Trees
from edgespec.kernels.exit_hint import exit_hint
from edgespec.model.exits import ExitHead, ExitHeads
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.target import Target
from edgespec.model.target_engine import ForwardRequest, HintAddress

TIMEOUT_S = 10.0
VOCABULARY, WIDTH, LAYER = 2048, 64, 8
"""An exit so small that its own time does not hide what comes behind it."""

TEXT_LENGTH, ROWS, RANK = 128, 8, 64
SHAPES: dict[str, dict[str, int]] = {
    "cuda": {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
             "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096},
    "cpu": {"vocab_size": 101, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
            "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 512},
}  # fmt: skip


def main() -> int:
    made = parser("hints", __doc__)
    made.add_argument("--device", choices=SHAPES, default="cpu")
    arguments = made.parse_args()
    runs = 5 if arguments.quick else 200
    device = torch.device(arguments.device)
    results = Results("hints", "Random weights; loopback, no TLS.", arguments.json)
    delay_us = hint_delay_us(device, runs)
    results.add(
        {"what": "a hint at an edge after its exit's end", "device": arguments.device, "us": delay_us}
    )
    plain_ms, hinted_ms = forward_ms(random_target(SHAPES[arguments.device], device), max(2, runs // 4))
    results.add({"what": "a forward without exits", "device": arguments.device, "ms": plain_ms})
    results.add({"what": "a forward with three exits", "device": arguments.device, "ms": hinted_ms})
    return 0


def hint_delay_us(device: torch.device, runs: int = 200) -> float:
    """Microseconds. Raises EdgespecError if a hint does not arrive."""
    words = torch.zeros((2, 1, 1, CELL_WORDS), dtype=torch.int32, pin_memory=device.type == "cuda")
    sequence = torch.zeros(1, dtype=torch.int32, device=device)
    launch = _exit(device, Cells(words, sequence, 0))
    reference = np.array([_native.COMMITTED_BIT | 1], dtype=np.uint32)
    ends: list[float] = []
    arrivals: list[float] = []
    with (
        _session() as (listener, connection, session),
        closing(_native.HintMailbox(listener, words.numpy(), [LAYER], 1)) as mailbox,
    ):
        for number in range(1, 2 * runs + 1):
            sequence.fill_(number)
            _finish(device)
            heard = number % 2 == 0
            mailbox.arm(number, [(session, 0, 1, 0, 0.0, reference)] if heard else [])
            start_s = time.perf_counter()
            launch()
            if not heard:
                _finish(device)
            elif not isinstance(connection.receive(TIMEOUT_S), _native.Hint):
                raise EdgespecError(f"the hint of forward {number} did not arrive.")
            (arrivals if heard else ends).append(time.perf_counter() - start_s)
            mailbox.retire(number)
    return (statistics.median(arrivals) - statistics.median(ends)) * 1e6


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _exit(device: torch.device, cells: Cells) -> Callable[[], None]:
    """One row's exit, with everything that it needs on the device."""
    weights = [torch.randn(1, WIDTH), torch.ones(WIDTH), torch.randn(VOCABULARY, WIDTH)]
    hidden, norm, head = (part.to(device) for part in weights)
    one = np.zeros(1, np.int32)
    columns = {
        "temperatures": np.zeros(1, np.float32), "seeds": np.zeros(1, np.uint64), "positions": one + 5,
        "draft_tokens": one - 1, "trees": Trees(np.array([0, 1], np.int32), one - 1, one), "curve_of": one,
    }  # fmt: skip
    curves = Curves(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.1, 1.0]]), (0.0,)).on(device)
    given = {name: on(value, device) for name, value in columns.items()}
    return lambda: exit_hint(hidden, norm, head, **given, curves=curves, cells=cells)


@contextmanager
def _session() -> Iterator[tuple[_native.Listener, _native.Connection, int]]:
    """A session on a connection of this machine: both ends, and its number."""
    vocabulary_hash = bytes(32)
    with (
        closing(_native.Listener("127.0.0.1", 0)) as listener,
        closing(_native.Connection("127.0.0.1", listener.port, TIMEOUT_S)) as connection,
    ):
        connection.send(_native.encode_hello(vocabulary_hash=vocabulary_hash, agent="hint delay"))
        welcome = _native.encode_welcome(
            version=_native.PROTOCOL_VERSION, features=0, vocabulary_hash=vocabulary_hash, context_length=512,
            vocabulary_size=VOCABULARY, layers=12, exit_layers=[LAYER], end_tokens=[], target_id="hint delay",
            max_frame_bytes=1 << 16, max_block_nodes=64,
        )  # fmt: skip
        listener.welcome(_next(listener, _native.Hello), welcome, b"")
        connection.receive(TIMEOUT_S)
        sampling = SamplingParams(temperature=0.0, ignore_eos=True)
        connection.send(encoded_open(sampling, 0, policy("preempt").options, [1], max_new_tokens=1))
        yield listener, connection, _next(listener, _native.Open)


def _next(listener: _native.Listener, kind: type) -> int:
    """The number of the next event of this kind."""
    while True:
        for number, what in listener.poll(TIMEOUT_S, 1):
            if isinstance(what, kind):
                return number


class Unread:
    """A watcher that reads nothing: the exits still have to write their hints."""

    def arm(self, sequence: int, watches: Any) -> None: ...

    def retire(self, sequence: int) -> list[int]:
        return []


def random_target(shape: dict[str, int], device: torch.device) -> Target:
    """A Llama of this shape with random weights, and three exits with random adapters."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    with torch.device(device):
        auto: Any = AutoModelForCausalLM
        model = auto.from_config(LlamaConfig(**shape), dtype=dtype).eval()
    width, layers = shape["hidden_size"], shape["num_hidden_layers"]
    margins = np.linspace(0.0, 5.0, 50)
    heads = {
        layer: ExitHead(
            down=torch.randn(RANK, width, dtype=dtype, device=device) / width**0.5,
            up=torch.randn(width, RANK, dtype=dtype, device=device) / RANK**0.5,
            norm=torch.ones(width, dtype=dtype, device=device),
            calibration=Calibration.fit({0.8: margins}, {0.8: margins > 1.0}),
        )
        for layer in (layers // 4, layers // 2, 3 * layers // 4)
    }
    exits = ExitHeads(heads, 1e-5, shape["vocab_size"], "random")
    target = Target(LoadedModel(model, "random", bytes(32)), exits=exits, kv_memory="512MiB")
    if target.hint_cells is not None:
        target.hint_cells.mailbox = Unread()
    return target


def forward_ms(target: Target, runs: int = 50) -> tuple[float, float]:
    """Milliseconds of a forward without hints and with them: medians of runs that take turns."""
    text: Sequence[int] = [1 + i % (target.vocabulary_size - 1) for i in range(TEXT_LENGTH)]
    cache, slots = target.open_cache(2 * TEXT_LENGTH), SlotMap(2 * TEXT_LENGTH)
    prompt = slots.plan(text, TEXT_LENGTH - 1, DraftTree(TEXT_LENGTH), [])
    target.forward_batch(
        [ForwardRequest(cache, prompt, np.zeros(0, np.int64), SamplingParams(temperature=0.0), 0)]
    )
    tree = DraftTree(TEXT_LENGTH)
    for node in range(1, ROWS):
        tree.add(node, ROOT if node == 1 else node - 1, 1 + node, 0.8)
    piece = slots.plan(text, TEXT_LENGTH, tree, list(tree))
    address = HintAddress(0, TEXT_LENGTH, 0, 0.0, np.ones(len(piece), np.uint32), lambda count: None)
    plain = ForwardRequest(cache, piece, np.arange(len(piece)), SamplingParams(temperature=0.8, seed=1), 1)
    hinted = ForwardRequest(
        plain.cache, piece, plain.decide, plain.sampling, 1, lambda rows: None, hint_address=address
    )
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs + 3):
        for part, own in zip((plain, hinted), taken, strict=True):
            start_s = time.perf_counter()
            target.forward_batch([part])
            own.append((time.perf_counter() - start_s) * 1e3)
    cache.release()
    plain_ms, hinted_ms = (statistics.median(own[3:]) for own in taken)  # the first runs capture graphs
    return plain_ms, hinted_ms


if __name__ == "__main__":
    sys.exit(main())
