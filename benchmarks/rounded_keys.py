"""How many greedy tokens of the bundled target are others where keys and values are kept as 8-bit floats.

`python -m benchmarks.rounded_keys`. The target writes 50 tokens behind the beginnings of ten files; behind each of them
the same target with rounded keys and values says what it would write.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

import edgespec.core
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.engines.model_folder import find_folder
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.reference import generate
from edgespec.model.rounding_cache import own_cache
from edgespec.model.target import Target

FILES, PROMPT, TOKENS = 10, 64, 50


def differing(model: LoadedModel, prompt: list[int]) -> int:
    """Of TOKENS tokens behind the prompt."""
    written = generate(model, prompt, SamplingParams(max_new_tokens=TOKENS, ignore_eos=True)).tokens
    rounding = replace(model, float8_pool=True)
    text = torch.tensor([[*prompt, *written[:-1]]])
    with torch.inference_mode():
        logits = model.module(input_ids=text, **own_cache(rounding)).logits[0, len(prompt) - 1 :]
    return int((logits.argmax(-1) != torch.tensor(written)).sum())


def main() -> None:
    model = Target.load(None, exits=None, device="cpu", kv_memory="16MiB").model
    tokenizer = Tokenizer.load(find_folder(None))
    files = sorted(Path(edgespec.core.__file__).parent.glob("*.py"))
    prompts = [list(tokenizer.encode(file.read_text(encoding="utf-8")))[:PROMPT] for file in files]
    chosen = [prompt for prompt in prompts if len(prompt) == PROMPT][:FILES]
    others = sum(differing(model, prompt) for prompt in chosen)
    print(f"{others} of {len(chosen) * TOKENS} greedy tokens are others with keys and values of 8 bits")


if __name__ == "__main__":
    main()
