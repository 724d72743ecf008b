"""Is the text exactly the target's? Prompts × modes × temperatures × seeds, token for token against `cloud`.

    python -m benchmarks.exactness --prompts 20 --seeds 3

The target runs in float64, where equal means equal, at full speed. `auto` and `stream` are played with memories too: of
the device, and shared by the server. Greedy `cloud` is compared with transformers'
`generate`. Exit status 1 on any difference. Prompts are cut from the standard library's held-out sources.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from benchmarks.results import Results, options
from edgespec.cli.child import child
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.drafting.modes import POLICIES
from edgespec.edge.memory import Memory
from edgespec.edge.session import Session
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import DraftEngine, load_draft
from edgespec.train.prompts import held_out_prompts

TEMPERATURES = (0.0, 0.7, 1.0)


def main() -> int:
    quick = {"prompts": 1, "seeds": 1, "max_new_tokens": 12}
    given = {"prompts": 10, "seeds": 2, "max_new_tokens": 48, "dtype": "float64", "threads": 2}
    arguments = options("exactness", __doc__, quick, **given)
    engine = load_draft(bundled_engine())
    prompts = held_out_prompts(Tokenizer.load(engine.tokenizer_path), arguments.prompts)
    sampled = itertools.product(TEMPERATURES[1:], range(arguments.seeds))
    samplings = [
        SamplingParams(
            temperature=temperature, seed=seed, max_new_tokens=arguments.max_new_tokens, ignore_eos=True
        )
        for temperature, seed in [(0.0, 0), *sampled]
    ]
    results = Results("exactness", f"The target in {arguments.dtype}.", arguments.json)
    serve = ["serve", "--port", "0", "--dtype", arguments.dtype, "--threads", str(arguments.threads)]
    serve.append("--shared-memory")
    with child(serve, "starting the server ...") as address:
        grid = list(itertools.product(prompts, samplings))
        cloud = [_generate(address, engine, *one, "cloud") for one in grid]
        remembering = [(mode, True) for mode in ("auto", "stream")]
        for mode, memories in [*((mode, False) for mode in POLICIES), *remembering]:
            with tempfile.TemporaryDirectory() as folder:
                memory = Memory(folder) if memories else None
                different = sum(
                    _generate(address, engine, *one, mode, memory) != text
                    for one, text in zip(grid, cloud, strict=True)
                )
            results.add(
                {
                    "mode": f"{mode} with memories" if memories else mode,
                    "texts": len(grid),
                    "tokens": sum(map(len, cloud)),
                    "different_texts": different,
                }
            )
    if arguments.dtype == "float64":
        greedy = [text for (_, params), text in zip(grid, cloud, strict=True) if params.temperature == 0]
        different = _differ_from_generate(prompts, greedy)
        results.add({"mode": "cloud, against generate", "texts": len(prompts), "different_texts": different})
    return 1 if any(row["different_texts"] for row in results.rows) else 0


def _generate(
    address: tuple[str, int],
    engine: DraftEngine,
    prompt: list[int],
    params: SamplingParams,
    mode: str,
    memory: Memory | None = None,
) -> list[int]:
    memories: dict[str, Any] = {"memory": memory, "shared_memory": memory is not None}
    with Session(address, engine, params, mode=mode, **memories) as session:
        session.prompt(prompt)
        for _ in session:
            pass
        return session.tokens


def _differ_from_generate(prompts: Sequence[list[int]], texts: Sequence[list[int]]) -> int:
    """How many greedy texts are not those of transformers' own loop."""
    import torch
    from transformers import AutoModelForCausalLM

    from edgespec.engines.model_folder import find_folder

    model = AutoModelForCausalLM.from_pretrained(find_folder(None), dtype=torch.float64)
    different = 0
    for prompt, text in zip(prompts, texts, strict=True):
        length = {"max_new_tokens": len(text), "min_new_tokens": len(text)}
        with torch.inference_mode():
            whole = model.generate(torch.tensor([prompt]), do_sample=False, eos_token_id=None, **length)
        different += whole[0, len(prompt) :].tolist() != text
    return different


if __name__ == "__main__":
    sys.exit(main())
