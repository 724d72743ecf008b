"""The draft on the edge: what a draft engine is, and how to open one.

`edgespec.compile` writes an engine folder; `load_draft` checks it and hands it to the runtime that runs it
(tensorrt_engines/runtimes.py). Nothing here imports torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgespec.core.calibration import Calibration
from edgespec.core.errors import EdgespecError
from edgespec.core.slots import Piece
from edgespec.engines.manifest import CALIBRATION_FILE, EngineManifest
from edgespec.tensorrt_engines.runtimes import open_runtime

PAIR_FOLDER = Path(__file__).parent.parent / "pair"
PAIR_DRAFT, PAIR_ENGINE = PAIR_FOLDER / "draft", PAIR_FOLDER / "engine"


class DraftEngine(Protocol):
    """A draft that runs pieces of text and tree, with its own cache of `capacity` slots. Not thread-safe."""

    @property
    def manifest(self) -> EngineManifest: ...
    @property
    def capacity(self) -> int:
        """Slots of the cache, and positions of a text."""

    @property
    def choices(self) -> int:
        """K: how many of the best tokens a row returns."""

    @property
    def vocabulary_size(self) -> int:
        """V: the width of the noise."""

    @property
    def calibration(self) -> Calibration: ...
    @property
    def tokenizer_path(self) -> Path: ...
    @property
    def vocabulary_hash(self) -> bytes: ...

    def reset(self) -> None:
        """Forget the cache."""

    def run(
        self,
        piece: Piece,
        noise: NDArray[np.float32] | None,
        noise_rows: NDArray[np.int32] | None,
        inverse_temperature: float,
        decide: NDArray[np.int32] | None = None,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Run the piece's R rows, put their keys and values into its slots, choose behind the rows `decide`.

        noise: float32 [P, V], and noise_rows: int32 [R], the row of `noise` that each of the R rows uses;
        None: no noise. decide: int32 [D], rows of the piece, any number of them; None: all of them, in order.
        Returns int32 [D, K] and float32 [D, K]: the best tokens by logit * inverse_temperature + noise and
        these scores, best first, ties to the lower id.
        """


def load_draft(path: str | Path, runtime: str = "auto", threads: int = 1) -> DraftEngine:
    """Open the engine folder that `edgespec.compile` wrote, with a fresh cache.

    runtime: "auto" (the one it was compiled for) or a runtime's name. threads: cores that one run may use.
    Raises EdgespecError when the folder is no engine, is damaged, or its runtime is not to be had here.
    """
    if threads < 1:
        raise EdgespecError(f"a draft engine cannot run on {threads} threads: give 1 or more.")
    folder = Path(path)
    manifest = EngineManifest.load(folder)
    return open_runtime(runtime, folder, manifest, _calibration(folder, manifest), threads)


def _calibration(folder: Path, manifest: EngineManifest) -> Calibration:
    try:
        return Calibration.from_json(json.loads((folder / CALIBRATION_FILE).read_text(encoding="utf-8")))
    except (ValueError, EdgespecError) as error:
        raise EdgespecError(
            f"the calibration in {folder} cannot be read ({error}): "
            f"build the engine again with `{manifest.rebuild_command(folder)}`."
        ) from None
