"""`edgespec models` lists what the tests cover."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_drafts
from click.testing import CliRunner, Result

from edgespec.cli.models import models
from edgespec.core.errors import EdgespecError
from edgespec.core.families import DRAFTS, TARGETS, VISION_TARGETS


def run(*arguments: object) -> Result:
    return CliRunner().invoke(models, [str(one) for one in arguments])


@pytest.mark.needs_torch
def test_the_listed_targets_are_those_that_are_compared_with_transformers() -> None:
    import tiny_models
    import trainable

    compared = {**tiny_models.FAMILIES, **trainable.FAMILIES, **trainable.MORE_FAMILIES}
    assert {config.model_type for config in compared.values()} == set(TARGETS)


@pytest.mark.needs_torch
def test_the_listed_vision_targets_are_those_that_are_served() -> None:
    from edgespec.model.vision_families import FAMILIES

    assert set(FAMILIES) == set(VISION_TARGETS)


def test_the_listed_drafts_are_those_whose_graphs_are_compared() -> None:
    assert {stem.lower() for stem, _ in tiny_drafts.FAMILY.values()} == set(DRAFTS)


def test_the_list_names_every_family() -> None:
    listed = json.loads(run("--json").output)
    assert listed["targets"] == TARGETS and listed["drafts"] == DRAFTS
    assert {"mamba", "paligemma"} <= listed["refused"].keys()
    assert all(name in run().output for name in ("llama", "qwen2_vl", "ALiBi"))


@pytest.mark.parametrize(
    ("model_type", "target", "draft"),
    [
        ("llama", "yes, tested", "yes, tested"),
        ("mamba", "no: it keeps a recurrent", "only if"),
        ("paligemma", "no: it lets every prompt token see", "only if"),
        ("brand_new", "not tested: `edgespec serve` checks", "only if"),
    ],
)
def test_a_model_is_looked_at_by_its_config(tmp_path: Path, model_type: str, target: str, draft: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    found = json.loads(run(tmp_path, "--json").output)
    assert found["target"].startswith(target) and found["draft"].startswith(draft)


def test_a_folder_that_holds_no_model_is_one_sentence(tmp_path: Path) -> None:
    error = run(tmp_path).exception
    assert isinstance(error, EdgespecError) and "does not say what model this is" in str(error)
