"""Loading a target: a folder -> a transformers causal LM, its tokenizer's hash and its exit heads.

Whatever is wrong ends in one sentence: no traceback of a library and no half-loaded weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

from edgespec.core.errors import EdgespecError, first_line
from edgespec.core.tokenizer import vocabulary_hash
from edgespec.core.weight_files import GGUF_WEIGHTS, weight_bytes, weight_files
from edgespec.engines.model_folder import bundled_pair, read_weights
from edgespec.model.attention import SLOT_ATTENTION
from edgespec.model.exits import ExitHeads, weights_sha256
from edgespec.model.float8_pool import check_float8_pool
from edgespec.model.memory import check_fits
from edgespec.model.quantised import check_quantised, keep_activations, quantiser
from edgespec.model.support import check_config, check_modules
from edgespec.model.tensor_parallel import check_divides, sharded_placement
from edgespec.model.vision import language_model
from edgespec.model.vision_families import FAMILIES

DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name) for name in ("float32", "float64", "bfloat16", "float16")
}
KV_DTYPES = ("auto", "fp8")
SMALL_BYTES = 1 << 30
"""Smaller weights load in about a second: they need no progress bar, and are hashed to check the exits."""


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """ "auto" is float32 on a CPU and bfloat16 on a GPU."""
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if dtype not in DTYPES:
        raise EdgespecError(f"dtype must be auto or one of {', '.join(DTYPES)}, not {dtype!r}.")
    return DTYPES[dtype]


def choose_float8_pool(kv_dtype: str) -> bool:
    """Whether keys and values are kept as 8-bit floats. "auto" keeps them in the model's dtype. Raises
    EdgespecError."""
    if kv_dtype not in KV_DTYPES:
        raise EdgespecError(f"--kv-dtype takes {' or '.join(KV_DTYPES)}, not {kv_dtype!r}.")
    return kv_dtype == "fp8"


def choose_device(device: str) -> torch.device:
    """ "auto" is the first GPU, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise EdgespecError(f"device must be auto, cpu or cuda (cuda:1, ...), not {device!r}.") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise EdgespecError("there is no CUDA device here: use the device cpu.")
    return chosen


def load_model(
    folder: Path,
    name: str,
    dtype: torch.dtype,
    device: torch.device,
    sharded: bool = False,
    trust_remote_code: bool = False,
    quantize: str | None = None,
    float8_pool: bool = False,
) -> Any:
    """The causal LM in `folder` on `device`, ready for slots and not in training; sharded: this process's part of it,
    by transformers' own plan; trust_remote_code: Python code in the folder may run; quantize: to one of
    `quantised.METHODS`; float8_pool: its keys and values are to be kept as 8-bit floats. Raises EdgespecError."""
    config = _read_config(folder, name, trust_remote_code)
    text_config = config.get_text_config()
    check_config(config, name)
    pictures = config.model_type in FAMILIES
    if pictures and sharded:
        raise EdgespecError(
            f"{name} reads pictures, and such a target is not sharded: leave --tensor-parallel out."
        )
    if float8_pool:
        check_float8_pool(text_config, name, dtype, device, sharded, pictures)
    quantised = check_quantised(config, name)
    chosen = None
    if quantize is not None:
        blocks = quantised or weight_files(folder)[0].name == GGUF_WEIGHTS
        chosen = quantiser(quantize, dtype, blocks, name)
    placement = _placement(device, sharded, quantised, chosen)
    if not placement:
        stored = getattr(text_config, "dtype", None)
        stored = stored if isinstance(stored, torch.dtype) else DTYPES.get(str(stored), dtype)
        check_fits(_loaded_bytes(folder, dtype, stored), dtype, device, name)
    if sharded:
        check_divides(text_config, name)
    model = read_weights(
        folder,
        bars=weight_bytes(folder) >= SMALL_BYTES,
        trust_remote_code=trust_remote_code,
        pictures=pictures,
        config=config,
        dtype=dtype,
        **placement,
    )
    check_modules(model, name)
    keep_activations(model)
    _set_attention(model, text_config, pictures)
    if dtype == torch.float64 and model._can_set_experts_implementation():
        model.set_experts_implementation("eager")  # the grouped product of experts has no float64
    return (model if placement else model.to(device)).eval().requires_grad_(False)


def _placement(device: torch.device, sharded: bool, quantised: bool, chosen: Any) -> dict[str, Any]:
    """What transformers is told of where weights go, and how to quantise them; nothing: they are moved later."""
    if sharded:
        return sharded_placement()
    if chosen is not None:
        return {"device_map": str(device), "quantization_config": chosen}
    return {"device_map": str(device)} if quantised else {}


def _read_config(folder: Path, name: str, trust_remote_code: bool) -> Any:
    try:
        return transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code
        )
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise EdgespecError(
                f"{name} brings its own Python code, which is not run: read it, then serve the model with "
                "--trust-remote-code, or take a model of a family that transformers knows."
            ) from None
        raise EdgespecError(
            f"{folder} holds no config.json of a model that transformers knows ({first_line(error)})."
        ) from None


def _loaded_bytes(folder: Path, dtype: torch.dtype, stored: torch.dtype) -> float:
    """Of the weights in memory. stored: their type in the files, unless those are quantised blocks."""
    [file, *_] = weight_files(folder)
    if file.name != GGUF_WEIGHTS:
        return weight_bytes(folder) * dtype.itemsize / stored.itemsize
    import gguf

    return float(sum(int(tensor.n_elements) for tensor in gguf.GGUFReader(file).tensors)) * dtype.itemsize


def find_exits(exits: str | Path | None, folder: Path) -> Path | None:
    """The folder of a target's exit heads. "auto": bundled with it, or `exits` in its folder, or None."""
    if exits is None:
        return None
    if exits == "auto":
        pair = bundled_pair()
        place = pair / "exits" if pair and folder == pair / "target" else folder / "exits"
        return place if place.is_dir() else None
    place = Path(exits).expanduser()
    if not place.is_dir():
        raise EdgespecError(
            f"there is no folder of exit heads {place}: train them with `edgespec train exits`."
        )
    return place


def load_exits(exits_folder: Path, folder: Path, model: Any, name: str) -> ExitHeads:
    """The exit heads in `exits_folder`, which must be those of the model in `folder`. Raises EdgespecError."""
    heads = ExitHeads.load(exits_folder, model.dtype, str(model.device))
    vocabulary_size, hidden_size = model.get_output_embeddings().weight.shape
    fits = (heads.vocabulary_size, heads.hidden_size) == (vocabulary_size, hidden_size)
    if fits and weight_bytes(folder) < SMALL_BYTES:
        fits = heads.target_sha256 == weights_sha256(folder)
    if not fits:
        raise EdgespecError(
            f"the exit heads in {exits_folder} were trained for another target than {name}: "
            "train them with `edgespec train exits`, or serve without exits."
        )
    return heads


def tokenizer_hash(folder: Path) -> bytes:
    """The hash of the vocabulary beside the model (edgespec.core.tokenizer). Raises EdgespecError."""
    file = folder / "tokenizer.json"
    try:
        if file.is_file():
            return vocabulary_hash(tokenizers.Tokenizer.from_file(str(file)))
        slow = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        return vocabulary_hash(slow.backend_tokenizer)
    except Exception as error:
        raise EdgespecError(
            f"{folder} holds no tokenizer that can be read ({first_line(error)}): "
            "save the model's tokenizer beside its weights."
        ) from None


def _set_attention(model: Any, text_config: Any, pictures: bool) -> None:
    if pictures:
        model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
    if _reads_pool(model, text_config):
        (language_model(model) if pictures else model).set_attn_implementation(SLOT_ATTENTION)


def _reads_pool(model: Any, text_config: Any) -> bool:
    """Whether its attention can read the pool in place: no softcap, and no latents that it would expand, of the whole
    pool, in each forward."""
    latent = getattr(text_config, "kv_lora_rank", None)
    return bool(
        model._supports_sdpa and not getattr(text_config, "attn_logit_softcapping", None) and not latent
    )
