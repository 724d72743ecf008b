"""Models in Hugging Face format: where their files are, and how their weights are read.

A model is the folder that is given, or a model id: its files are in the hub's cache, or are downloaded.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from edgespec.core.errors import EdgespecError, first_line
from edgespec.core.weight_files import GGUF_WEIGHTS, weight_files
from edgespec.engines.gguf_folder import gguf_files, gguf_folder
from edgespec.engines.quiet import quiet

PAIR_FOLDER = Path(__file__).parent.parent / "pair"
"""The bundled pair, as the sources have it: target, draft, its engine and exits. A device's wheel has the draft
alone."""

DOWNLOADED = ("model*.safetensors", "pytorch_model*.bin")
BESIDE_WEIGHTS = ("*.json", "*.jinja", "*.model")
HUB_TIMEOUT_S = 10.0


def find_folder(model: str | Path | None) -> Path:
    """The local folder of a model; None: the bundled target's. Raises EdgespecError."""
    if model is None:
        pair = bundled_pair()
        if pair is None:
            raise EdgespecError(
                "the bundled target is not installed: run `pip install edgespec-pair`, or name a model."
            )
        return _checked(pair / "target")
    path = Path(model).expanduser()
    if (file := _gguf(path)) is not None:
        return gguf_folder(file)
    if path.exists():
        return _checked(path)
    name = str(model)
    if isinstance(model, Path) or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise EdgespecError(
            f"there is no model folder {name}: give a folder, or a model id such as org/name."
        )
    return _from_hub(name)


def bundled_pair() -> Path | None:
    """The folder of the bundled target and its exits: in the package, or in the distribution edgespec-pair."""
    if (PAIR_FOLDER / "target").is_dir():
        return PAIR_FOLDER
    spec = importlib.util.find_spec("edgespec_pair")
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def name_of(model: str | Path | None, folder: Path) -> str:
    """What messages and clients call the target: its model id, or its folder's name."""
    if model is None:
        return "bundled"
    path = Path(model).expanduser()
    if (file := _gguf(path)) is not None:
        return file.stem
    return folder.resolve().name if path.exists() else str(model)


def read_weights(
    folder: Path,
    *,
    bars: bool = False,
    trust_remote_code: bool = False,
    pictures: bool = False,
    **options: Any,
) -> Any:
    """The causal LM in `folder`, by transformers with these options. Raises EdgespecError where it cannot be loaded or
    lacks weights. bars: show the progress. trust_remote_code: Python code in the folder may run. pictures: it is a
    vision-language model."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    auto = AutoModelForImageTextToText if pictures else AutoModelForCausalLM
    options |= {"attn_implementation": "eager", "local_files_only": True, "output_loading_info": True}
    options["trust_remote_code"] = trust_remote_code
    if weight_files(folder)[0].name == GGUF_WEIGHTS:
        options["gguf_file"] = GGUF_WEIGHTS
    try:
        with quiet(bars):
            loaded: Any = auto.from_pretrained(folder, **options)
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise EdgespecError(
                f"the model in {folder} brings its own Python code, which is not run: take a model of a family that "
                "transformers knows, such as Llama, Mistral, Qwen2 and Qwen3."
            ) from None
        raise EdgespecError(
            f"the model in {folder} cannot be loaded ({first_line(error)}): give the folder of a causal language "
            "model with its config.json and weights."
        ) from None
    model, report = loaded
    missing = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if missing:
        raise EdgespecError(
            f"the weights in {folder} do not fill the model: {len(missing)} are missing or misshapen, "
            f"such as {missing[0]}: copy or save the model again."
        )
    return model


def _gguf(path: Path) -> Path | None:
    """The GGUF file that the path is, or the only one in a folder that holds no model in Hugging Face format."""
    files = [] if (path / "config.json").is_file() else gguf_files(path)
    return files[0] if len(files) == 1 else None


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise EdgespecError(f"{folder} holds no config.json: give the folder of a Hugging Face model.")
    weight_files(folder)
    return folder


def _from_hub(name: str) -> Path:
    """Find a model id's files in the cache, or download what is missing; HF_HUB_OFFLINE is respected."""
    import huggingface_hub

    broken = "the model id"
    try:
        return _checked(Path(huggingface_hub.snapshot_download(name, local_files_only=True)))
    except EdgespecError:
        broken = "the rest of its broken download"
    except Exception:
        pass
    try:
        files = huggingface_hub.HfApi().model_info(name, timeout=HUB_TIMEOUT_S).siblings or []
        safe = any(file.rfilename.endswith(".safetensors") for file in files)
        folder = huggingface_hub.snapshot_download(
            name, allow_patterns=[DOWNLOADED[0 if safe else 1], *BESIDE_WEIGHTS], etag_timeout=HUB_TIMEOUT_S
        )
    except Exception as error:
        raise EdgespecError(
            f"there is no folder {name}, and {broken} cannot be fetched from the hub "
            f"({first_line(error)}): check the name and the network, or download the model and give its folder."
        ) from None
    return _checked(Path(folder))
