"""The reference that every mode must equal: transformers' own `generate`, with the noise of coupled sampling added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from edgespec.core.guide_matcher import Guides, Matcher, allowed_tokens
from edgespec.core.noise import NoiseRows
from edgespec.core.params import SamplingParams
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.rounding_cache import own_cache


@dataclass(frozen=True)
class ReferenceText:
    """Token ids that `generate` writes, and each one's margin: its noisy score minus the second-best."""

    tokens: list[int]
    margins: list[float]


class CoupledNoise(transformers.LogitsProcessor):
    """logit / T + noise of the token's position: its maximum is a draw at temperature T."""

    def __init__(self, vocabulary_size: int, temperature: float, seed: int) -> None:
        self._noise = NoiseRows(vocabulary_size)
        self._temperature, self._seed = temperature, seed

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        (row,), _ = self._noise.rows(self._seed, [input_ids.shape[1]])
        return scores / self._temperature + torch.from_numpy(row).to(scores)


class _Penalties(transformers.LogitsProcessor):
    """Presence and frequency penalties for the tokens behind the prompt."""

    def __init__(self, prompt_length: int, presence: float, frequency: float) -> None:
        self._start, self._presence, self._frequency = prompt_length, presence, frequency

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        counts = torch.bincount(input_ids[0, self._start :], minlength=scores.shape[1])[None]
        return scores - self._presence * (counts > 0) - self._frequency * counts


class _Guide(transformers.LogitsProcessor):
    """-inf for what the guide does not allow behind the text so far."""

    def __init__(self, prompt_length: int, matcher: Matcher) -> None:
        self._start, self._matcher = prompt_length, matcher

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        masks = self._matcher.masks(input_ids[0, self._start :].tolist(), [[]])
        banned = torch.from_numpy(~allowed_tokens(masks, scores.shape[1]))
        return scores.masked_fill(banned.to(scores.device), -torch.inf)


def generate(model: LoadedModel, prompt: Sequence[int], params: SamplingParams) -> ReferenceText:
    """The text behind `prompt` at the temperature, penalties, guide and seed of `params`, until an end token or
    max_new_tokens. Raises EdgespecError for a guide that cannot be followed."""
    processors: list[Any] = []
    if params.presence_penalty or params.frequency_penalty:
        processors.append(_Penalties(len(prompt), params.presence_penalty, params.frequency_penalty))
    if params.repetition_penalty != 1:
        processors.append(transformers.RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
    if params.guide is not None:
        guides = Guides(model.tokenizer_path, model.vocabulary_size, model.end_tokens)
        processors.append(_Guide(len(prompt), guides.matcher(params.guide)))
    if not params.greedy:
        assert params.seed is not None
        processors.append(CoupledNoise(model.vocabulary_size, params.temperature, params.seed))
    nobodys = [
        model.vocabulary_size
    ]  # where there are none, `generate` takes those of the model's own settings
    end_tokens = nobodys if params.ignore_eos else list(model.end_tokens) or nobodys
    config: Any = transformers.GenerationConfig
    settings = config(
        do_sample=False,
        max_new_tokens=params.max_new_tokens,
        eos_token_id=end_tokens,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    ids = torch.tensor([list(prompt)], device=model.device)
    with torch.inference_mode():
        found = model.module.generate(
            ids,
            **own_cache(model),
            attention_mask=torch.ones_like(ids),
            generation_config=settings,
            logits_processor=transformers.LogitsProcessorList(processors),
        )
    best = [torch.topk(scores[0].double(), 2).values.tolist() for scores in found.scores]
    return ReferenceText(
        found.sequences[0, len(prompt) :].tolist(), [first - second for first, second in best]
    )
