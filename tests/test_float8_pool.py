"""A pool of 8-bit floats: every way to run the target reads what its own forward reads with keys and values rounded
likewise, and texts are those of plain decoding so. In float64, where equal means equal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from stubs import serving
from test_cuda_graphs import Rerun, forwards
from test_golden_texts import session
from test_target_batch import Text, assert_same
from tiny_models import FAMILIES, LATENT, save, tiny
from transformers import AutoModelForCausalLM

from edgespec.cli.engine import Model
from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.core.slots import Piece
from edgespec.core.target_identity import same_target, target_name
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft
from edgespec.kernels.narrow_pool import FLOAT8
from edgespec.model import backends, self_check
from edgespec.model.float8_pool import check_float8_pool
from edgespec.model.reference import generate
from edgespec.model.support import UnsupportedModel
from edgespec.model.target import Target
from edgespec.server.server import Server

PROMPT = "import os\n\n\ndef read_lines(path):\n"

PLAIN = FAMILIES["llama"]

WAYS = [
    ("llama", "modules"),
    ("llama", "captured"),
    ("llama", "deterministic"),
    ("llama", "lean layers"),
    ("llama", "captured lean layers"),
    ("gemma3", "lean layers"),
    ("gemma2", "modules"),
    ("granite", "pages"),
    ("granite", "captured pages"),
]
"""Families and how they run: Gemma 2 has soft caps, which torch's attention reads from slots laid end to end."""


def served(family: str, way: str, folder: Path, patch: pytest.MonkeyPatch, dtype: str = "float64") -> Target:
    if "lean" in way or "pages" in way:
        patch.setitem(backends.ATTENTION_OF_DEVICE, "cpu", "cpu")
    ordered = way == "deterministic"
    target = Target.load(
        save(tiny(family), folder), dtype=dtype, kv_memory="16MiB", kv_dtype="fp8", deterministic=ordered
    )
    if "captured" in way:
        target.use_graphs(Rerun())
    assert (target.runner.paged is not None) == ("lean" in way or "pages" in way)
    assert (target.runner.lean is not None) == ("lean" in way)
    assert {memory.dtype for layer in target.pool.pool_layers for memory in (layer.keys, layer.values)} == {
        FLOAT8
    }
    return target


@pytest.mark.parametrize(("family", "way"), WAYS)
def test_a_tree_has_the_logits_of_its_chains_with_rounded_keys_and_values(
    family: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = served(family, way, tmp_path, monkeypatch)
    with torch.inference_mode():
        assert max(self_check._differences(target.runner)) < 1e-5


@pytest.mark.parametrize(("family", "way"), WAYS)
def test_rows_decide_the_same_whatever_shares_their_forward(
    family: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt's rows with its tree in one forward, where others ran them in several."""
    target = served(family, way, tmp_path, monkeypatch)
    *_, first, second = [target.forward_batch(parts) for parts in forwards(target)]
    for seed, (length, nodes) in enumerate([(5, 3), (70, 0), (21, 12)]):
        text = Text(target, length, seed)
        (alone,) = target.forward_batch([text.part(length, nodes)])
        assert_same(alone, [*first, *second][seed])
        text.cache.release()
        (again,) = target.forward_batch([Text(target, length, seed).part(length, nodes)])
        assert_same(again, alone)


@pytest.mark.parametrize("way", ["modules", "captured lean layers"])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_row_at_a_time_gives_the_text_of_plain_decoding(
    temperature: float, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = served("llama", way, tmp_path, monkeypatch)
    params = SamplingParams(max_new_tokens=24, temperature=temperature, seed=7, ignore_eos=True)
    text = Text(target, 9, 0)
    text.sampling, text.seed = params, 7
    want = generate(target.model, text.tokens, params)
    assert want.tokens != generate(replace(target.model, float8_pool=False), text.tokens, params).tokens
    for token in want.tokens:
        (decided,) = target.forward_batch([text.part(len(text.tokens))])
        assert decided.tokens.tolist() == [token]
        text.tokens.append(token)


@pytest.fixture(scope="module")
def bundled() -> Target:
    return Target.load(None, exits=None, dtype="float64", kv_memory="16MiB", kv_dtype="fp8")


@pytest.fixture(scope="module")
def server(bundled: Target) -> Iterator[Server]:
    with serving(bundled) as one:
        yield one


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("mode", ["sync", "auto"])
def test_chains_and_trees_give_the_text_of_plain_decoding(
    mode: str, temperature: float, bundled: Target, server: Server
) -> None:
    params: dict[str, Any] = {"temperature": temperature, "seed": 3, "max_new_tokens": 40}
    with session([server], load_draft(bundled_engine()), mode, **params) as one:
        ids = list(one.tokenizer.encode(PROMPT))
        one.prompt(PROMPT)
        list(one)
        found = one.tokens
    assert found == generate(bundled.model, ids, SamplingParams(**params)).tokens


# Memory, names and refusals


def test_a_slot_takes_a_byte_a_number_and_another_target_it_is(tmp_path: Path) -> None:
    folder = save(tiny(dtype=torch.bfloat16), tmp_path)
    plain, narrow = (
        Target.load(folder, dtype="bfloat16", device="cpu", kv_memory="1MiB", kv_dtype=kv_dtype)
        for kv_dtype in ("auto", "fp8")
    )
    assert 2 * narrow.pool.page_bytes == plain.pool.page_bytes
    assert narrow.pages.count // 2 == plain.pages.count
    assert narrow.runner.graph_bytes(False) < plain.runner.graph_bytes(False)
    assert not same_target(narrow.target_id, plain.target_id)
    assert target_name(narrow.target_id) == target_name(plain.target_id)


def test_the_native_decoder_does_not_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert served("llama", "modules", tmp_path, monkeypatch, "float32").runner.decoder is None


def test_the_check_at_load_still_sees_a_wrong_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = self_check._piece

    def without_the_first_token(tokens: Any, paths: Any, slots: Any, rows: range) -> Piece:
        piece = whole(tokens, paths, slots, rows)
        piece.cached[:, slots[0]] = False
        return piece

    monkeypatch.setattr(self_check, "_piece", without_the_first_token)
    with pytest.raises(UnsupportedModel, match="computes a draft tree otherwise than its chains"):
        served("llama", "modules", tmp_path, monkeypatch)


CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("config", "dtype", "device", "sharded", "pictures", "message"),
    [
        (PLAIN, torch.float32, CPU, True, False, "is split over processes"),
        (PLAIN, torch.float32, CPU, False, True, "reads pictures"),
        (LATENT, torch.float32, CPU, False, False, "keeps latents"),
        (PLAIN, torch.float32, GPU, False, False, "is to run in float32 on a GPU"),
    ],
)
def test_other_targets_are_refused_by_name(
    config: Any,
    dtype: torch.dtype,
    device: torch.device,
    sharded: bool,
    pictures: bool,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    with pytest.raises(
        EdgespecError, match=f"--kv-dtype fp8 is not for tiny, which {message}.*: leave it out"
    ):
        check_float8_pool(config, "tiny", dtype, device, sharded, pictures)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_older_gpus_are_refused_by_name(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    for newer in ((8, 9), (9, 0)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, it=newer: it)
        check_float8_pool(PLAIN, "tiny", dtype, GPU, False, False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    with pytest.raises(EdgespecError, match=r"a GPU of compute capability 8\.6, and 8-bit floats need 8\.9"):
        check_float8_pool(PLAIN, "tiny", dtype, GPU, False, False)


def test_a_target_that_it_is_not_for_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    folder = save(AutoModelForCausalLM.from_config(LATENT), tmp_path)
    with pytest.raises(EdgespecError, match=r"--kv-dtype fp8 is not for .*, which keeps latents"):
        Target.load(folder, device="cpu", kv_dtype="fp8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "llamacpp"}, "--engine llamacpp does not have --kv-dtype"),
        ({"engine": "vllm"}, "--engine vllm does not have --kv-dtype"),
        ({"tensor_parallel": True}, "--kv-dtype is not split over processes: leave --tensor-parallel out"),
    ],
)
def test_engines_without_it_refuse_it_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgespecError, match=message):
        Model(kv_dtype="fp8", **options).check()
    Model(engine=options.get("engine", "own")).check()


def test_other_types_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match="--kv-dtype takes auto or fp8, not 'fp4'"):
        Target.load(tmp_path, kv_dtype="fp4")
