"""Is the text exactly the target's? Prompts × modes × temperatures × seeds, token for token against `cloud`.

    python -m benchmarks.exactness --prompts 20 --seeds 3

The target runs in float64, where equal means equal, at full speed. Greedy `cloud` is compared with transformers'
`generate`. Exit status 1 on any difference. Prompts are cut from the standard library's held-out sources.
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.prompts import held_out_prompts
from edgespec.cli.child import child
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.drafting.modes import POLICIES
from edgespec.edge.session import Session
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import DraftEngine, load_draft

TEMPERATURES = (0.0, 0.7, 1.0)


def main() -> int:
    arguments = _arguments()
    engine = load_draft(bundled_engine())
    tokenizer = Tokenizer.load(engine.tokenizer_path)
    prompts = held_out_prompts(tokenizer, arguments.prompts)
    serve = ["serve", "--port", "0", "--dtype", arguments.dtype, "--threads", str(arguments.threads)]
    with child(serve, "starting the server ...") as address:
        wrong = _compare(address, engine, prompts, arguments)
    wrong += _compare_with_generate(prompts, arguments.max_new_tokens) if arguments.dtype == "float64" else 0
    return 1 if wrong else 0


def _compare(
    address: tuple[str, int], engine: DraftEngine, prompts: list[list[int]], arguments: argparse.Namespace
) -> int:
    """Run the grid, print what each mode differed in, and return how many texts differed in all."""
    console = Console()
    texts = dict.fromkeys(POLICIES, 0)
    different = dict.fromkeys(POLICIES, 0)
    grid = [
        (prompt, temperature, seed)
        for prompt in prompts
        for temperature in TEMPERATURES
        for seed in (range(arguments.seeds) if temperature else (0,))
    ]
    for prompt, temperature, seed in track(grid, "comparing", console=Console(stderr=True)):
        params = SamplingParams(
            temperature=temperature, seed=seed, max_new_tokens=arguments.max_new_tokens, ignore_eos=True
        )
        cloud = _generate(address, engine, prompt, params, "cloud")
        for mode in POLICIES:
            texts[mode] += 1
            different[mode] += _generate(address, engine, prompt, params, mode) != cloud
    table = Table("mode", "texts", "tokens", "different texts")
    for mode in POLICIES:
        table.add_row(
            mode, str(texts[mode]), str(texts[mode] * arguments.max_new_tokens), str(different[mode])
        )
    console.print(table)
    return sum(different.values())


def _generate(
    address: tuple[str, int], engine: DraftEngine, prompt: list[int], params: SamplingParams, mode: str
) -> list[int]:
    with Session(address, engine, params, mode=mode) as session:
        session.prompt(prompt)
        for _ in session:
            pass
        return session.tokens


def _compare_with_generate(prompts: list[list[int]], max_new_tokens: int) -> int:
    """Greedy `cloud` against transformers' own loop; returns how many texts differed."""
    import torch
    from transformers import AutoModelForCausalLM

    from edgespec.model.model_folder import find_folder

    model = AutoModelForCausalLM.from_pretrained(find_folder(None), dtype=torch.float64)
    engine = load_draft(bundled_engine())
    different = 0
    with child(["serve", "--port", "0", "--dtype", "float64"], "starting the server ...") as address:
        for prompt in prompts:
            with torch.inference_mode():
                text = model.generate(
                    torch.tensor([prompt]),
                    max_new_tokens=max_new_tokens,
                    min_new_tokens=max_new_tokens,
                    do_sample=False,
                    eos_token_id=None,
                )
            params = SamplingParams(max_new_tokens=max_new_tokens, ignore_eos=True)
            different += (
                _generate(address, engine, prompt, params, "cloud") != text[0, len(prompt) :].tolist()
            )
    print(f"greedy cloud against transformers generate: {len(prompts)} texts, {different} different")
    return different


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--dtype", default="float64")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
