"""Exit heads: after some of the target's layers, a small adapter lets the shared LM head guess the outcome.

x = h + up(silu(down(h))), then the exit's own RMS norm, then the target's LM head. The heads are
trained by `edgespec train exits`, kept as exits.safetensors + exits.json, and bound to one target by
the hash of its weights. A hint carries the probability that the head's calibration gives its margin.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from edgespec.core.calibration import Calibration
from edgespec.core.errors import EdgespecError
from edgespec.core.weight_files import weight_files
from edgespec.core.whole_files import sha256_of

FORMAT_VERSION = 1
WEIGHTS_FILE = "exits.safetensors"
MANIFEST_FILE = "exits.json"
PARTS = ("down", "up", "norm")


@dataclass
class ExitHead:
    """One exit: `down` [rank, D], `up` [D, rank], `norm` [D] as torch tensors, and its calibration."""

    down: torch.Tensor
    up: torch.Tensor
    norm: torch.Tensor
    calibration: Calibration


@dataclass
class ExitHeads:
    """The heads of one target, by layer; layer l is read after l decoder layers (1-based)."""

    heads: dict[int, ExitHead]
    norm_epsilon: float
    vocabulary_size: int
    target_sha256: str

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(sorted(self.heads))

    @property
    def hidden_size(self) -> int:
        return int(next(iter(self.heads.values())).norm.shape[0])

    @property
    def rank(self) -> int:
        return int(next(iter(self.heads.values())).down.shape[0])

    def calibration(self, layer: int) -> Calibration:
        """The calibration of the exit after `layer`."""
        return self.heads[layer].calibration

    def rows(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        """Adapt and normalise hidden rows [R, D] read after `layer`, ready for the LM head."""
        head = self.heads[layer]
        return adapt(hidden, head.down, head.up, head.norm, self.norm_epsilon)

    def adapted(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden rows [R, D] read after `layer`, adapted but not normalised yet."""
        head = self.heads[layer]
        return adapted(hidden, head.down, head.up)

    def save(self, folder: Path) -> None:
        """Write exits.safetensors and exits.json into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"{layer}.{part}": getattr(head, part).contiguous()
            for layer, head in self.heads.items()
            for part in PARTS
        }
        save_file(tensors, str(folder / WEIGHTS_FILE))
        manifest = {
            "version": FORMAT_VERSION,
            "layers": list(self.layers),
            "rank": self.rank,
            "hidden_size": self.hidden_size,
            "vocabulary_size": self.vocabulary_size,
            "norm_epsilon": self.norm_epsilon,
            "target_sha256": self.target_sha256,
            "weights_sha256": sha256_of(folder / WEIGHTS_FILE),
            "calibrations": {str(layer): self.heads[layer].calibration.to_json() for layer in self.layers},
        }
        (folder / MANIFEST_FILE).write_text(json.dumps(manifest) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str, dtype: torch.dtype | None = None, device: str = "cpu") -> ExitHeads:
        """Read a folder that `save` wrote; EdgespecError if it is missing, damaged or of another version."""
        folder = Path(folder)
        manifest = _read_manifest(folder)
        weights = folder / WEIGHTS_FILE
        if not weights.is_file() or sha256_of(weights) != manifest.get("weights_sha256"):
            raise _damaged(
                folder, f"{WEIGHTS_FILE} is missing or is not the file that {MANIFEST_FILE} describes"
            )
        tensors = load_file(str(weights), device=device)
        try:
            heads = {
                int(layer): ExitHead(
                    **{part: tensors[f"{layer}.{part}"].to(dtype=dtype) for part in PARTS},
                    calibration=Calibration.from_json(manifest["calibrations"][str(layer)]),
                )
                for layer in manifest["layers"]
            }
            loaded = cls(
                heads,
                norm_epsilon=float(manifest["norm_epsilon"]),
                vocabulary_size=int(manifest["vocabulary_size"]),
                target_sha256=str(manifest["target_sha256"]),
            )
            sizes = (int(manifest["rank"]), int(manifest["hidden_size"]))
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(folder, f"{MANIFEST_FILE} lacks {error}") from error
        loaded._check_shapes(folder, *sizes)
        return loaded

    def _check_shapes(self, folder: Path, rank: int, width: int) -> None:
        if not self.heads or min(self.heads) < 1:
            raise _damaged(folder, "it names no layer to exit after")
        for layer, head in self.heads.items():
            shapes = (tuple(head.down.shape), tuple(head.up.shape), tuple(head.norm.shape))
            if shapes != ((rank, width), (width, rank), (width,)):
                raise _damaged(folder, f"the weights of layer {layer} have the shapes {shapes}")


def adapt(
    hidden: torch.Tensor, down: torch.Tensor, up: torch.Tensor, norm: torch.Tensor, epsilon: float
) -> torch.Tensor:
    """The exit's function of hidden rows [..., D]; the norm is at least float32 inside, as Llama's is."""
    raw = adapted(hidden, down, up)
    wide = raw.to(torch.promote_types(raw.dtype, torch.float32))
    scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return norm * scaled.to(hidden.dtype)


def adapted(hidden: torch.Tensor, down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Hidden rows [..., D] behind the exit's adapter, before its norm."""
    functional = torch.nn.functional
    return hidden + functional.linear(functional.silu(functional.linear(hidden, down)), up)


def weights_sha256(model_folder: Path) -> str:
    """Hex digest that binds exits to a target: of its files of weights, in the order of their names."""
    files = weight_files(model_folder)
    if len(files) == 1:
        return sha256_of(files[0])
    return hashlib.sha256("".join(sha256_of(file) for file in files).encode()).hexdigest()


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise EdgespecError(
            f"{folder} holds no {MANIFEST_FILE}: give the folder that `edgespec train exits` wrote."
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(folder, f"{MANIFEST_FILE} is no JSON") from error
    if not isinstance(manifest, dict) or manifest.get("version") != FORMAT_VERSION:
        raise _damaged(folder, f"{MANIFEST_FILE} is not of format version {FORMAT_VERSION}")
    return manifest


def _damaged(folder: Path, what: str) -> EdgespecError:
    return EdgespecError(f"The exit heads in {folder} cannot be used, {what}: train or copy them again.")
