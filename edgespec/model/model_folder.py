"""Where a model's files are: a local folder, the bundled pair, the Hugging Face hub's cache, or the hub."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from edgespec.core.errors import EdgespecError, first_line
from edgespec.core.weight_files import weight_files

PAIR = Path(__file__).parent.parent / "pair"
"""The bundled pair, as the sources have it: target, draft and exits. A device's wheel has the draft alone."""

DOWNLOADED = ("model*.safetensors", "pytorch_model*.bin")
BESIDE_WEIGHTS = ("*.json", "*.jinja", "tokenizer.model")
HUB_TIMEOUT_S = 10.0


def find_folder(model: str | Path | None) -> Path:
    """The local folder of a model: as given, bundled (None), or a model id's in the hub's cache. Raises
    EdgespecError."""
    if model is None:
        pair = bundled_pair()
        if pair is None:
            raise EdgespecError(
                "the bundled target is not installed: run `pip install edgespec-pair`, or name a model."
            )
        return _checked(pair / "target")
    path = Path(model).expanduser()
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
    if (PAIR / "target").is_dir():
        return PAIR
    spec = importlib.util.find_spec("edgespec_pair")
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def name_of(model: str | Path | None, folder: Path) -> str:
    """What messages and clients call the target: its model id, or its folder's name."""
    if model is None:
        return "bundled"
    return folder.resolve().name if Path(model).expanduser().exists() else str(model)


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
