"""Milliseconds a token of one draft, every way there is to run it, in one run: `python -m benchmarks.draft_engines`.

A chain of eight tokens behind a text, greedy, one thread. The ways take turns, and the best of several rounds counts.
llama.cpp is among them once `python -m benchmarks.peers install` has built it into an environment of its own.
Prints a table, and what docs/engines.md quotes besides: the slope of four rows against one, the time to open an engine,
the resident memory of a process that runs it.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import torch
import transformers

import edgespec
from benchmarks.peers import environments
from benchmarks.peers.drafts import llama_cpp_draft
from edgespec.core.errors import EdgespecError
from edgespec.core.slots import SlotMap
from edgespec.core.tree import ROOT, DraftTree
from edgespec.engines.bundled import PAIR_DRAFT
from edgespec.engines.draft_engine import DraftEngine, load_draft
from edgespec.engines.manifest import GRAPH_FILE

TEXT_LENGTH, TOKENS = 96, 8

VICUNA_68M: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 2,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "max_position_embeddings": 2048,
}

MEMORY_PROGRAM = """
import sys, time
start_s = time.perf_counter()
from edgespec.engines.draft_engine import load_draft
imported_s = time.perf_counter()
engine = load_draft(sys.argv[1])
opened_s = time.perf_counter()
import numpy as np
from edgespec.core.slots import SlotMap
from edgespec.core.tree import DraftTree
slots = SlotMap(engine.capacity)
for length in range(1, 65):
    engine.run(slots.plan(list(range(64)), length, DraftTree(64), []), None, None, 1.0)
status = open("/proc/self/status").read()
resident_mb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024
made = engine.manifest
cache_mb = 2 * made.layers * made.capacity * made.kv_heads * made.head_dim * 4 / 2**20
print(imported_s - start_s, opened_s - imported_s, resident_mb, cache_mb)
"""

Chain = Callable[[], list[int]]


def engine_chain(engine: DraftEngine, text: list[int]) -> Chain:
    """As a session runs it: a token a run, with I/O bound."""

    def run() -> list[int]:
        engine.reset()
        slots, tokens = SlotMap(engine.capacity), list(text)
        engine.run(
            slots.plan(tokens, len(text) - 1, DraftTree(0), []), None, None, 1.0, np.zeros(0, dtype=np.int32)
        )
        start_s = time.perf_counter()
        for _ in range(TOKENS):
            best, _ = engine.run(slots.plan(tokens, len(tokens), DraftTree(0), []), None, None, 1.0)
            tokens.append(int(best[-1, 0]))
        timed.append(time.perf_counter() - start_s)
        return tokens[len(text) :]

    return run


def unbound_chain(folder: Path, text: list[int]) -> Chain:
    """ONNX Runtime as it is first written: the same graph, a token a run, inputs and outputs as arrays, no binding."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(folder / GRAPH_FILE), options, providers=["CPUExecutionProvider"]
    )
    shapes = {value.name: value.shape for value in session.get_inputs()}
    names = sorted((name for name in shapes if name.startswith("cache_")), key=lambda name: int(name[6:]))
    noise = np.zeros((1, shapes["noise"][1]), dtype=np.float32)

    def step(tokens: list[int], start: int, cache: list[Any]) -> tuple[int, list[Any]]:
        rows = len(tokens) - start
        inputs = {
            "tokens": np.array(tokens[start:], dtype=np.int32),
            "positions": np.arange(start, len(tokens), dtype=np.int32),
            "cached": np.ones((rows, start), dtype=np.bool_),
            "among": np.tri(rows, dtype=np.bool_),
            "decide": np.array([rows - 1], dtype=np.int32),
            "noise": noise,
            "noise_rows": np.zeros(1, dtype=np.int32),
            "inverse_temperature": np.array(1.0, dtype=np.float32),
            **dict(zip(names, cache, strict=True)),
        }
        best, _, new = session.run(None, inputs)
        return int(best[0, 0]), [np.concatenate(pair) for pair in zip(cache, new, strict=True)]

    def run() -> list[int]:
        cache = [np.zeros((0, *shapes[name][1:]), dtype=np.float32) for name in names]
        tokens = list(text)
        _, cache = step(tokens[:-1], 0, cache)
        start_s = time.perf_counter()
        for _ in range(TOKENS):
            token, cache = step(tokens, len(tokens) - 1, cache)
            tokens.append(token)
        timed.append(time.perf_counter() - start_s)
        return tokens[len(text) :]

    return run


def torch_chain(model_folder: Path, text: list[int], compiled: bool) -> Chain:
    """transformers on torch: eager with a growing cache, or torch.compile with a static one."""
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        model_folder, dtype=torch.float32, attn_implementation="sdpa" if compiled else "eager"
    )
    forward = torch.compile(model, mode="default", fullgraph=True) if compiled else model

    def fresh_cache() -> Any:
        if compiled:
            return transformers.StaticCache(config=model.config, max_cache_len=TEXT_LENGTH + TOKENS)
        return transformers.DynamicCache(config=model.config)

    @torch.no_grad()
    def run() -> list[int]:
        cache, tokens = fresh_cache(), []
        where = torch.arange(len(text) - 1)
        model(torch.tensor([text[:-1]]), past_key_values=cache, cache_position=where)
        token = torch.tensor([[text[-1]]])
        start_s = time.perf_counter()
        for index in range(TOKENS):
            position = torch.tensor([len(text) - 1 + index])
            logits = forward(token, past_key_values=cache, cache_position=position).logits
            token = logits[:, -1:].argmax(-1)
            tokens.append(int(token))
        timed.append(time.perf_counter() - start_s)
        return tokens

    return run


def generate_chain(model_folder: Path, text: list[int]) -> Chain:
    """transformers' own `generate`, as a user calls it, behind a cache that holds the text."""
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        model_folder, dtype=torch.float32, attn_implementation="sdpa"
    )
    settings: Any = transformers.GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False, eos_token_id=None, pad_token_id=0
    )

    @torch.no_grad()
    def run() -> list[int]:
        cache = transformers.DynamicCache(config=model.config)
        model(torch.tensor([text[:-1]]), past_key_values=cache)
        start_s = time.perf_counter()
        tokens: list[int] = model.generate(
            torch.tensor([text]), generation_config=settings, past_key_values=cache
        )[0].tolist()
        timed.append(time.perf_counter() - start_s)
        return tokens[len(text) :]

    return run


def llama_cpp_chains(
    stack: contextlib.ExitStack, model: Path, folder: Path, text: list[int]
) -> dict[str, Chain]:
    """llama.cpp with 32-bit weights and with its 8-bit ones; none, and a line that says why, where it is not built."""
    try:
        version = environments.versions("llama-cpp")["llama-cpp-python"]
    except EdgespecError as error:
        print(f"llama.cpp is left out: {error}", file=sys.stderr)
        return {}

    def chain(kind: str) -> Chain:
        ask = stack.enter_context(llama_cpp_draft(model, folder / f"{kind}.gguf", kind))

        def run() -> list[int]:
            tokens, seconds = ask(text, TOKENS)
            timed.append(seconds)
            return tokens

        return run

    return {f"llama.cpp {kind} (llama-cpp-python {version})": chain(kind) for kind in ("f32", "q8_0")}


timed: list[float] = []
"""Seconds of the chains since it was last emptied, prefill left out."""


def in_turns(chains: dict[str, Chain], rounds: int) -> dict[str, float]:
    """Milliseconds a token, the best of the rounds; every way has to find the same tokens, 8-bit ones aside."""
    expected = next(iter(chains.values()))()
    best = dict.fromkeys(chains, float("inf"))
    for name, chain in chains.items():
        tokens = chain()
        if not any(rounded in name for rounded in ("int8", "q8_0")) and tokens != expected:
            raise SystemExit(f"{name} finds {tokens}, not {expected}")
    for _ in range(rounds):
        for name, chain in chains.items():
            timed.clear()
            chain()
            best[name] = min(best[name], timed[-1] / TOKENS * 1e3)
    return best


def rows_ms(engine: DraftEngine, rows: int, runs: int = 60) -> float:
    """Milliseconds of one run on so many rows behind the text; the best of `runs`."""
    engine.reset()
    slots, text = SlotMap(engine.capacity), list(range(TEXT_LENGTH))
    engine.run(slots.plan(text, len(text), DraftTree(0), []), None, None, 1.0, np.zeros(0, dtype=np.int32))
    tree = DraftTree(len(text))
    for node in range(1, rows + 1):
        tree.add(node, ROOT, node, 0.5)
    piece = slots.plan(text, len(text), tree, list(range(1, rows + 1)))
    noise, which = np.zeros((1, engine.vocabulary_size), dtype=np.float32), np.zeros(rows, dtype=np.int32)
    best = float("inf")
    for _ in range(runs):
        start_s = time.perf_counter()
        engine.run(piece, noise, which, 1.0)
        best = min(best, time.perf_counter() - start_s)
    return best * 1e3


def read_floor_ms(graph_file: Path, runs: int = 20) -> float:
    """Milliseconds to read once, on one thread, the matrices that a row multiplies with; the best of `runs`."""
    import onnx

    graph = onnx.load(str(graph_file)).graph
    multiplied = {
        name
        for node in graph.node
        if "MatMul" in node.op_type or node.op_type == "Gemm"
        for name in node.input
    }
    sizes = [len(weight.raw_data) for weight in graph.initializer if weight.name in multiplied]
    array = np.ones(sum(sizes) // 4, dtype=np.float32)
    best = float("inf")
    for _ in range(runs):
        start_s = time.perf_counter()
        array @ array
        best = min(best, time.perf_counter() - start_s)
    return best * 1e3


def compare(name: str, model: Path, folder: Path, rounds: int) -> None:
    """One draft, all ways."""
    engines = {
        precision: edgespec.compile(
            model, folder / precision, runtime="onnxruntime", precision=precision, progress=False
        )
        for precision in ("fp32", "int8")
    }
    opened = {precision: load_draft(engine) for precision, engine in engines.items()}
    rng = np.random.default_rng(0)
    text: list[int] = rng.integers(5, opened["fp32"].vocabulary_size, TEXT_LENGTH).tolist()
    with contextlib.ExitStack() as stack:
        chains = {
            "edgespec fp32": engine_chain(opened["fp32"], text),
            "edgespec int8": engine_chain(opened["int8"], text),
            "onnxruntime, a token a run, nothing bound": unbound_chain(engines["fp32"], text),
            "transformers' generate": generate_chain(model, text),
            "transformers eager": torch_chain(model, text, compiled=False),
            "torch.compile": torch_chain(model, text, compiled=True),
            **llama_cpp_chains(stack, model, folder, text),
        }
        times = in_turns(chains, rounds)
    print(f"\n## {name}\n\n| way | ms a token | against edgespec fp32 |\n|---|---:|---:|")
    for way, ms in times.items():
        print(f"| {way} | {ms:.3f} | {ms / times['edgespec fp32']:.2f}x |")
    for precision, engine in opened.items():
        floor_ms = read_floor_ms(engines[precision] / GRAPH_FILE)
        by_rows = {rows: rows_ms(engine, rows) for rows in (1, 2, 4, 8)}
        shown = ", ".join(f"{rows}: {ms:.3f}" for rows, ms in by_rows.items())
        print(f"\n{precision}: ms a run by rows: {shown}; four rows cost {by_rows[4] / by_rows[1]:.2f}x one.")
        print(
            f"{precision}: reading the weights takes {floor_ms:.3f} ms, {floor_ms / by_rows[1]:.0%} of one row's run."
        )
        command = [sys.executable, "-c", MEMORY_PROGRAM, str(engines[precision])]
        numbers = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        imported_s, opened_s, resident_mb, cache_mb = (float(number) for number in numbers)
        graph_mb = (engines[precision] / GRAPH_FILE).stat().st_size / 2**20
        print(
            f"{precision}: imported in {imported_s:.2f} s, opened in {opened_s:.2f} s, {resident_mb:.0f} MiB resident "
            f"(weights {graph_mb:.0f}, cache {cache_mb:.0f}).",
            flush=True,
        )


def main() -> None:
    """Both drafts: the bundled one, and Vicuna-68M's shape with random weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="Of torch; the engines run on one.")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        compare("bundled draft", PAIR_DRAFT, folder / "bundled", arguments.rounds)
        torch.manual_seed(0)
        config = transformers.LlamaConfig(**VICUNA_68M)
        transformers.LlamaForCausalLM(config).save_pretrained(folder / "model")
        words = {f"w{token}": token for token in range(config.vocab_size)}
        import tokenizers

        tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0")).save(
            str(folder / "model" / "tokenizer.json")
        )
        compare("Vicuna-68M's shape, random weights", folder / "model", folder / "vicuna", arguments.rounds)


if __name__ == "__main__":
    main()
