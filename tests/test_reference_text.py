"""The text that every mode is compared with."""

from __future__ import annotations

from tiny_models import tiny

from edgespec.core.params import SamplingParams
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.reference import generate


def test_an_end_token_of_the_models_own_settings_is_ignored_where_that_is_asked_for() -> None:
    model = LoadedModel(tiny(), "llama", bytes(32))
    params = SamplingParams(max_new_tokens=20, seed=4, temperature=0.9, ignore_eos=True)
    whole = generate(model, [5, 6, 7], params).tokens
    model.module.generation_config.eos_token_id = whole[3]
    assert generate(model, [5, 6, 7], params).tokens == whole and len(whole) == 20
