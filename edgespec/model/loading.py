"""Loading a target: a local folder or a model id -> a transformers causal LM, its tokenizer's hash, its
exits' place.

Whatever is wrong ends in one sentence: no traceback of a library, no half-loaded weights, no wait for a
network that is not there. A folder is looked for first, then the local cache of the Hugging Face hub, then
the hub.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

from edgespec.core.errors import EdgespecError
from edgespec.core.slots import SLOT_BUCKET
from edgespec.core.tokenizer import vocabulary_hash
from edgespec.model.attention import SLOT_ATTENTION
from edgespec.model.exits import ExitHeads, weights_sha256
from edgespec.model.support import check_config, check_modules, first_line

PAIR = Path(__file__).parent.parent / "pair"
"""The bundled pair: target, draft and exits."""

DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name) for name in ("float32", "float64", "bfloat16", "float16")
}
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
BESIDE = ("*.json", "*.jinja", "tokenizer.model")
HUB_TIMEOUT_S = 10.0
SMALL_BYTES = 1 << 30
"""Weights smaller than this load in about a second: no progress bar for them, and they are hashed to check
exits."""

QUANTISERS = {
    "bitsandbytes": ("bitsandbytes", "accelerate"),
    "gptq": ("gptqmodel", "optimum", "accelerate"),
    "awq": ("gptqmodel", "accelerate"),
}
"""What transformers reads quantised weights with, by the method that the config names."""

KV_SHARE = 0.2
"""Of the device's available memory: keys and values, where nobody says how much."""


def find_folder(model: str | Path | None) -> Path:
    """The local folder of a model: as given, bundled (None), or a model id's in the hub's cache. Raises
    EdgespecError."""
    if model is None:
        return _checked_folder(PAIR / "target")
    path = Path(model).expanduser()
    if path.exists():
        return _checked_folder(path)
    name = str(model)
    if isinstance(model, Path) or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise EdgespecError(
            f"there is no model folder {name}: give a folder, or a model id such as org/name."
        )
    return _hub_folder(name)


def name_of(model: str | Path | None, folder: Path) -> str:
    """What messages and clients call the target: its model id, or its folder's name."""
    if model is None:
        return "bundled"
    return folder.resolve().name if Path(model).expanduser().exists() else str(model)


def find_exits(exits: str | Path | None, folder: Path) -> Path | None:
    """Where a target's exit heads are. "auto": bundled with it, or in its folder under `exits`, or there are
    none."""
    if exits is None:
        return None
    if exits == "auto":
        place = PAIR / "exits" if folder == PAIR / "target" else folder / "exits"
        return place if place.is_dir() else None
    place = Path(exits).expanduser()
    if not place.is_dir():
        raise EdgespecError(
            f"there is no folder of exit heads {place}: train them with `edgespec train exits`."
        )
    return place


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """ "auto" is float32 on a CPU and bfloat16 on a GPU."""
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if dtype not in DTYPES:
        raise EdgespecError(f"dtype must be auto or one of {', '.join(DTYPES)}, not {dtype!r}.")
    return DTYPES[dtype]


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
    folder: Path, name: str, dtype: torch.dtype, device: torch.device, sharded: bool = False
) -> Any:
    """The causal LM in `folder`, ready for slots: not in training, on `device`; sharded: this process's part of it, by
    transformers' own plan. Raises EdgespecError."""
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise EdgespecError(
            f"{folder} holds no config.json of a model that transformers knows ({first_line(error)})."
        ) from None
    check_config(config.get_text_config(), name)
    quantised = check_quantisation(config, name)
    if not (sharded or quantised):
        check_fits(folder, name, config, dtype, device)
    try:
        with _quiet(folder):
            loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                attn_implementation="eager",
                local_files_only=True,
                output_loading_info=True,
                **({"tp_plan": "auto"} if sharded else {"device_map": str(device)} if quantised else {}),
            )
    except Exception as error:
        raise EdgespecError(f"the model in {folder} cannot be loaded: {first_line(error)}.") from None
    model, loading = loaded
    missing = sorted(loading["missing_keys"]) + sorted(str(key) for key in loading["mismatched_keys"])
    if missing:
        raise EdgespecError(
            f"the weights in {folder} do not fill the model: {len(missing)} are missing or misshapen, "
            f"such as {missing[0]}: copy or save the model again."
        )
    check_modules(model, name)
    if model._supports_sdpa and not getattr(config.get_text_config(), "attn_logit_softcapping", None):
        model.set_attn_implementation(SLOT_ATTENTION)
    if dtype == torch.float64 and model._can_set_experts_implementation():
        model.set_experts_implementation("eager")  # the grouped product of experts has no float64
    return (model if sharded or quantised else model.to(device)).eval().requires_grad_(False)


def check_quantisation(config: Any, name: str) -> bool:
    """Whether the weights are quantised. Raises EdgespecError where the libraries that read them are not installed."""
    settings = getattr(config, "quantization_config", None)
    if settings is None:
        return False
    method = str(settings.get("quant_method", "") if isinstance(settings, dict) else settings.quant_method)
    missing = [library for library in QUANTISERS.get(method, ("accelerate",)) if find_spec(library) is None]
    if missing:
        raise EdgespecError(
            f"{name} is quantised ({method}), which needs {' and '.join(missing)}: pip install {' '.join(missing)}."
        )
    return True


def check_fits(folder: Path, name: str, config: Any, dtype: torch.dtype, device: torch.device) -> None:
    """Raises EdgespecError where the weights need more memory than the device has left."""
    stored = getattr(config.get_text_config(), "dtype", None)
    stored = stored if isinstance(stored, torch.dtype) else DTYPES.get(str(stored), dtype)
    needed = _weight_bytes(folder) * dtype.itemsize / stored.itemsize
    available = available_bytes(device)
    if needed > available:
        raise EdgespecError(
            f"{name} does not fit: its weights take {needed / 2**30:.2f} GiB in {str(dtype).removeprefix('torch.')}, "
            f"and the device has {available / 2**30:.2f} GiB: {(needed - available) / 2**30:.2f} GiB are missing; take "
            "a smaller --dtype, a larger device or --tensor-parallel."
        )


def load_exits(exits_folder: Path, folder: Path, model: Any, name: str) -> ExitHeads:
    """The exit heads in `exits_folder`, which must be those of the model in `folder`. Raises
    EdgespecError."""
    heads = ExitHeads.load(exits_folder, model.dtype, str(model.device))
    vocabulary_size, hidden_size = model.get_output_embeddings().weight.shape
    fits = (heads.vocabulary_size, heads.hidden_size) == (vocabulary_size, hidden_size)
    if fits and _weight_bytes(folder) < SMALL_BYTES and any(folder.glob(WEIGHTS[0])):
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
        slow = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return vocabulary_hash(slow.backend_tokenizer)
    except Exception as error:
        raise EdgespecError(
            f"{folder} holds no tokenizer that can be read ({first_line(error)}): "
            "save the model's tokenizer beside its weights."
        ) from None


def kv_pages(kv_memory: int | str | None, page_bytes: int, device: torch.device, name: str) -> int:
    """How many pages of key-value memory `kv_memory` is: bytes, "512MiB", "4GB" or a share such as "40%" of
    the device's available memory; None: KV_SHARE of it. Raises EdgespecError where they are none."""
    available = available_bytes(device)
    wanted = KV_SHARE * available if kv_memory is None else parse_memory(kv_memory, available)
    if wanted > available:
        raise EdgespecError(
            f"--kv-memory {kv_memory} is {wanted / 2**30:.2f} GiB, and the device has "
            f"{available / 2**30:.2f} GiB: {(wanted - available) / 2**30:.2f} GiB are missing; ask for less."
        )
    pages = int(wanted // page_bytes)
    if pages < 2:
        raise EdgespecError(
            f"a key-value memory of {wanted / 2**20:.1f} MiB is too small: {name} needs "
            f"{page_bytes / 2**20:.1f} MiB for {SLOT_BUCKET} tokens of one session, and as much beside it; "
            "raise --kv-memory."
        )
    return pages


def parse_memory(text: int | str, whole: float) -> float:
    """Bytes, from a number, a number with a unit (kB, MB, GB, KiB, MiB, GiB) or a share of `whole` (40%).
    Raises EdgespecError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%|[kKMGT]i?B|B)?\s*", str(text))
    if match is None or float(match[1]) == 0 or (match[2] == "%" and float(match[1]) > 100):
        raise EdgespecError(
            f"--kv-memory must be bytes, such as 2GiB or 512MB, or a share, such as 40%, not {text!r}."
        )
    number, unit = float(match[1]), match[2] or "B"
    if unit == "%":
        return number / 100 * whole
    base = 1024 if "i" in unit else 1000
    return number * float(base ** "BKMGT".index(unit[0].upper()))


def available_bytes(device: torch.device) -> float:
    """Memory of the device that a process may still take."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) / 2


def end_tokens(model: Any) -> tuple[int, ...]:
    """The tokens that end a text, from the generation config, else from the model's."""
    for config in (getattr(model, "generation_config", None), model.config.get_text_config()):
        ids = getattr(config, "eos_token_id", None)
        if ids is not None:
            return tuple(ids) if isinstance(ids, (list, tuple)) else (int(ids),)
    return ()


def _checked_folder(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise EdgespecError(f"{folder} holds no config.json: give the folder of a Hugging Face model.")
    if not any(next(folder.glob(pattern), None) for pattern in WEIGHTS):
        raise EdgespecError(f"{folder} holds no weights (*.safetensors): copy or download the model again.")
    return folder


def _hub_folder(name: str) -> Path:
    """Download a model id's files, or find them in the cache; HF_HUB_OFFLINE is respected."""
    import huggingface_hub

    try:
        return _checked_folder(Path(huggingface_hub.snapshot_download(name, local_files_only=True)))
    except Exception:
        pass
    try:
        files = huggingface_hub.HfApi().model_info(name, timeout=HUB_TIMEOUT_S).siblings or []
        weights = WEIGHTS[0] if any(file.rfilename.endswith(".safetensors") for file in files) else WEIGHTS[1]
        folder = huggingface_hub.snapshot_download(
            name, allow_patterns=[weights, *BESIDE], etag_timeout=HUB_TIMEOUT_S
        )
    except Exception as error:
        raise EdgespecError(
            f"there is no folder {name}, and the model id cannot be fetched from the hub "
            f"({first_line(error)}): check the name and the network, or download the model and "
            "give its folder."
        ) from None
    return _checked_folder(Path(folder))


@contextmanager
def _quiet(folder: Path) -> Iterator[None]:
    """Small models load without transformers' bar and report."""
    logging: Any = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if _weight_bytes(folder) < SMALL_BYTES:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _weight_bytes(folder: Path) -> int:
    return sum(os.path.getsize(file) for pattern in WEIGHTS for file in folder.glob(pattern))
