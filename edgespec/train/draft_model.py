"""Where a draft's weights begin: drawn at random, the target's own first layers, or an earlier draft.

A draft of the target's width takes its embeddings (frozen, and tied where the target ties them) and whole layers. A
narrower one is a Llama on the main directions of the target's embeddings: rows are projected on them, key heads kept
from the first on, and MLP neurons by their size.
"""

from __future__ import annotations

import copy
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from edgespec.core.errors import EdgespecError, first_line
from edgespec.model.loading import tokenizer_hash
from edgespec.train.target import Shape, build
from edgespec.train.teacher import Teacher

PRESETS = {"small": (0.05, 0.25), "medium": (0.1, 0.5), "wide": (0.1, 1.0)}
"""Shares of the target's layers and width."""

FIRST_LAYERS, AN_EARLIER_DRAFT = 0.8, 0.2
"""Shares of the learning rates. First layers alone are far from a draft: 31 steps of three layers of SmolLM2-135M at
0.2 left a loss of 9 nats; ten more at 0.2 brought it to 7, 17 more at 0.8 to 4.5."""


@dataclass(frozen=True)
class Begun:
    """A draft to train. rate_share: of the learning rates of weights that are drawn at random."""

    model: Any
    rate_share: float


def begin_draft(teacher: Teacher, shape: str | Shape, init: str, context: int, seed: int) -> Begun:
    """init: "random", "layers" or the folder of a draft, whose own shape then holds. A whole Shape is drawn at random.
    Raises EdgespecError."""
    if init not in ("random", "layers"):
        return Begun(_earlier(Path(init), teacher), AN_EARLIER_DRAFT)
    if isinstance(shape, Shape):
        return Begun(build(shape, seed, teacher.model.end_tokens), 1.0)
    layers, width = _sizes(shape, teacher)
    if init == "layers" and width == teacher.width:
        return Begun(_first_layers(teacher, layers), FIRST_LAYERS)
    sizes = _shape(teacher, layers, width, context)
    model = build(sizes, seed, teacher.model.end_tokens)
    if init == "random":
        return Begun(model, 1.0)
    cut_down(teacher, model)
    return Begun(model, FIRST_LAYERS)


def _sizes(shape: str, teacher: Teacher) -> tuple[int, int]:
    """Layers and width. Raises EdgespecError."""
    if shape in PRESETS:
        depth, share = PRESETS[shape]
        width = teacher.width if share == 1 else max(64, round(share * teacher.width / 64) * 64)
        return max(1, round(depth * teacher.layers)), min(width, teacher.width)
    found = re.fullmatch(r"(\d{1,3})x(\d{1,5})", shape)
    layers, width = (int(one) for one in found.groups()) if found else (0, 0)
    if not (1 <= layers <= teacher.layers and 8 <= width <= teacher.width and width % 8 == 0):
        raise EdgespecError(
            f"--shape takes {', '.join(PRESETS)} or LAYERSxWIDTH, at most {teacher.layers}x{teacher.width} as the "
            f"target has, with a width that 8 divides, not {shape!r}."
        )
    return layers, width


def _shape(teacher: Teacher, layers: int, width: int, context: int) -> Shape:
    """Heads as wide as the target's where that divides the width, with the target's number of heads per key head."""
    config = teacher.model.config
    wanted = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    head_width = next(size for size in (wanted, 64, 32, 16, 8) if width % size == 0 and size % 2 == 0)
    heads = width // head_width
    share = config.num_attention_heads // (getattr(config, "num_key_value_heads", None) or 1)
    inner = max(16, round(config.intermediate_size * width / teacher.width / 16) * 16)
    groups = next(one for one in range(max(1, heads // share), 0, -1) if heads % one == 0)
    return Shape(layers, width, heads, groups, inner, context, teacher.vocabulary_size)


def _first_layers(teacher: Teacher, layers: int) -> Any:
    """A model of the target's family with its embeddings and first layers."""
    module = teacher.model.module
    config = copy.deepcopy(teacher.model.config)
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    config.max_window_layers = min(layers, getattr(config, "max_window_layers", None) or layers)
    auto: Any = AutoModelForCausalLM
    model = auto.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    wanted = model.state_dict()
    own = {name: value for name, value in module.state_dict().items() if name in wanted}
    if set(wanted) - set(own):
        raise EdgespecError(
            f"the layers of {teacher.name} ({type(module).__name__}) cannot be taken over: use --init random."
        )
    model.load_state_dict(own)
    for part in (model.get_input_embeddings(), model.get_output_embeddings()):
        part.requires_grad_(False)
    return model


def _earlier(folder: Path, teacher: Teacher) -> Any:
    if not (folder / "config.json").is_file():
        raise EdgespecError(f"{folder} holds no draft: --init takes layers, random or the folder of a model.")
    if tokenizer_hash(folder) != teacher.model.vocabulary_hash:
        raise EdgespecError(
            f"the draft in {folder} has another vocabulary than {teacher.name}: begin with --init layers."
        )
    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    except Exception as error:
        raise EdgespecError(f"the draft in {folder} cannot be loaded: {first_line(error)}.") from None


@torch.no_grad()
def cut_down(teacher: Teacher, model: Any) -> None:
    """Fill `model`, a Llama, from the target's embeddings and first layers; what the target lacks stays as drawn."""
    table = teacher.model.module.get_input_embeddings().weight.float().cpu()
    centred = table - table.mean(0)
    _, directions = torch.linalg.eigh(centred.T @ centred)
    basis = directions[:, -model.config.hidden_size :].flip(1)  # [D, width], the main directions first
    model.get_input_embeddings().weight.copy_(table @ basis)
    model.model.norm.weight.fill_(float(teacher.final_norm().float().mean()))
    for source, to in zip(teacher.model.decoder_layers, model.model.layers, strict=False):
        own = {name: weight.float().cpu() for name, weight in source.named_parameters()}
        kept = None
        if "mlp.down_proj.weight" in own:
            sizes = own["mlp.down_proj.weight"].norm(dim=0)
            kept = torch.topk(sizes, min(len(sizes), model.config.intermediate_size)).indices
        for name, parameter in to.named_parameters():
            if name in own and parameter.ndim == own[name].ndim == 2:
                _overlay(parameter, _projected(name, own, basis, kept))


def _projected(
    name: str, own: dict[str, torch.Tensor], basis: torch.Tensor, kept: torch.Tensor | None
) -> torch.Tensor:
    """A matrix of a layer between the main directions, with the MLP's largest neurons."""
    matrix, into_rows = own[name], name.endswith(("o_proj.weight", "down_proj.weight"))
    if kept is not None and name.startswith("mlp."):
        matrix = matrix[:, kept] if into_rows else matrix[kept]
    if into_rows:
        return basis.T @ matrix
    norm = "input_layernorm" if name.startswith("self_attn.") else "post_attention_layernorm"
    return (matrix * own.get(f"{norm}.weight", torch.ones(1))) @ basis


def _overlay(parameter: torch.Tensor, matrix: torch.Tensor) -> None:
    rows, columns = (min(ours, theirs) for ours, theirs in zip(parameter.shape, matrix.shape, strict=True))
    parameter[:rows, :columns] = matrix[:rows, :columns]


def described(model: Any) -> dict[str, Any]:
    """The draft's sizes, for its report."""
    config = model.config.get_text_config()
    inner = getattr(config, "intermediate_size", 0)
    groups = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return asdict(
        Shape(
            config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads,
            groups,
            inner,
            config.max_position_embeddings,
            config.vocab_size,
        )
    )
