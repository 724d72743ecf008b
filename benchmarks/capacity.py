"""How many devices does one server carry? Tokens a second of many sessions against one, and what a shared
prompt saves.

python benchmarks/capacity.py                       # 1 and 8 sessions, unpaced; a prompt seen before
python benchmarks/capacity.py --pace-ms 28 --sessions 1 32

The devices are synthetic: their drafts replay the target's own text, right at 60 % of the positions, 6 ms a
token. The texts are compared with what each session gets alone; with --deterministic they must be equal.
"""

from __future__ import annotations

import argparse
import os
import platform
import threading
import time

import numpy as np
from replay import device, finish
from rich.console import Console
from rich.table import Table

from edgespec.child import child
from edgespec.edge.tokenizer import Tokenizer
from edgespec.params import SamplingParams
from edgespec.target.loading import find_folder

Address = tuple[str, int]
PROMPT_TOKENS = 16


def main() -> None:
    arguments = _arguments()
    console = Console()
    tokenizer = Tokenizer.load(find_folder(arguments.target))
    console.print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {arguments.threads} threads"
    )
    serve = ["serve", "--port", "0", "--threads", str(arguments.threads), "--dtype", arguments.dtype]
    serve += ["--target", arguments.target] if arguments.target else []
    serve += ["--deterministic"] if arguments.deterministic else []
    with child(serve, "recording texts ...") as address:
        texts = [
            _record(address, tokenizer, number, arguments.tokens) for number in range(max(arguments.sessions))
        ]
        if not arguments.pace_ms:
            _compare_prompts(address, tokenizer, console)
    pace = ["--verify-pace-ms", str(arguments.pace_ms)] if arguments.pace_ms else []
    table = Table(
        "sessions", "mode", "tokens/s", "× of the first", "median token ms", "p99", "texts that differ"
    )
    first: dict[str, float] = {}
    with child([*serve, *pace], "starting the server ...") as address:
        for mode in arguments.modes:
            _play(address, tokenizer, texts[:1], mode, arguments.tokens)  # warm
            for count in arguments.sessions:
                rate, gaps_ms, wrong = _play(address, tokenizer, texts[:count], mode, arguments.tokens)
                times = rate / first.setdefault(mode, rate)
                low, high = np.percentile(gaps_ms, [50, 99])
                table.add_row(
                    str(count), mode, f"{rate:.1f}", f"{times:.2f}", f"{low:.0f}", f"{high:.0f}", str(wrong)
                )
    console.print(table)


def _prompt(number: int, length: int = PROMPT_TOKENS) -> list[int]:
    return [int(token) for token in np.random.default_rng(number).integers(10, 4000, length)]


def _params(number: int, tokens: int) -> SamplingParams:
    return SamplingParams(temperature=0.8, seed=number, max_new_tokens=tokens, ignore_eos=True)


def _record(address: Address, tokenizer: Tokenizer, number: int, tokens: int) -> list[int]:
    prompt = _prompt(number)
    return prompt + finish(device(address, tokenizer, _params(number, tokens), "cloud"), prompt)


def _play(
    address: Address, tokenizer: Tokenizer, texts: list[list[int]], mode: str, tokens: int
) -> tuple[float, list[float], int]:
    """All texts at once: tokens a second in all, milliseconds a token of each step, texts that came out
    different."""
    gaps_ms: list[float] = []
    wrong: list[int] = []
    ready = threading.Barrier(len(texts) + 1)

    def run(number: int, text: list[int]) -> None:
        drafts = text if mode != "cloud" else []
        with device(address, tokenizer, _params(number, tokens), mode, drafts, draft_ms=6.0) as session:
            ready.wait()
            session.prompt(text[:PROMPT_TOKENS])
            last_s = time.monotonic()
            for step in session:
                now_s = time.monotonic()
                gaps_ms.extend([(now_s - last_s) * 1e3 / max(1, len(step.tokens))] * len(step.tokens))
                last_s = now_s
            if session.tokens != text[PROMPT_TOKENS:]:
                wrong.append(number)

    threads = [threading.Thread(target=run, args=(n, text)) for n, text in enumerate(texts)]
    for thread in threads:
        thread.start()
    ready.wait()
    start_s = time.monotonic()
    for thread in threads:
        thread.join()
    return len(texts) * tokens / (time.monotonic() - start_s), gaps_ms, len(wrong)


def _compare_prompts(address: Address, tokenizer: Tokenizer, console: Console) -> None:
    """Milliseconds to the first token of a 1,000-token prompt, new and seen before."""
    ratios = []
    for number in range(5):
        prompt, first_ms = _prompt(1000 + number, 1000), []
        for _ in range(2):
            with device(address, tokenizer, _params(number, 2), "cloud") as session:
                session.prompt(prompt)
                session.step()
                first_ms.append(session.statistics.ttft_ms or 0.0)
        ratios.append(first_ms)
    new, again = np.median(np.array(ratios), axis=0)
    console.print(
        f"1,000-token prompt to its first token: {new:.0f} ms new, {again:.1f} ms seen before, {new / again:.1f} ×"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--modes", nargs="+", default=["cloud", "sync", "auto"])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--pace-ms", type=float, help="hold every forward to at least this long")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--target", help="a folder; the bundled target if not given")
    parser.add_argument("--deterministic", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
