"""The draft on the edge: what a draft engine is, and how to open an engine folder. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from edgespec.core.calibration import Calibration
from edgespec.core.errors import EdgespecError
from edgespec.engines.engine_folder import read_calibration
from edgespec.engines.manifest import TOKENIZER_FILE, EngineManifest
from edgespec.engines.runtimes import Eyes, Runner, open_eyes, open_runner


class DraftEngine(Runner, Protocol):
    """A draft that runs pieces of text and tree over its own cache. Not thread-safe.

    capacity: slots of the cache, and positions of a text. choices: K, the best tokens that a row returns.
    vocabulary_size: V, the width of the noise. eyes: its vision encoder, which twins share; None: it reads text only.
    """

    manifest: EngineManifest
    capacity: int
    choices: int
    vocabulary_size: int
    calibration: Calibration
    tokenizer_path: Path
    vocabulary_hash: bytes
    eyes: Eyes | None

    def twin(self) -> DraftEngine: ...


class OpenEngine:
    """An engine folder that a runtime has opened: a `DraftEngine`."""

    def __init__(
        self,
        folder: Path,
        manifest: EngineManifest,
        calibration: Calibration,
        runner: Runner,
        eyes: Eyes | None,
    ) -> None:
        self.manifest = manifest
        self.calibration = calibration
        self.capacity = manifest.capacity
        self.choices = manifest.choices
        self.vocabulary_size = manifest.vocabulary_size
        self.vocabulary_hash = bytes.fromhex(manifest.vocabulary_hash)
        self.tokenizer_path = folder / TOKENIZER_FILE
        self.runner, self.eyes = runner, eyes
        self.reset, self.run = runner.reset, runner.run
        self._folder = folder

    def twin(self) -> OpenEngine:
        return OpenEngine(self._folder, self.manifest, self.calibration, self.runner.twin(), self.eyes)


def load_draft(path: str | Path, runtime: str = "auto", threads: int = 1) -> DraftEngine:
    """Open the engine folder that `edgespec.compile` wrote, with a fresh cache.

    runtime: "auto" (the one it was compiled for) or a runtime's name. threads: cores that one run may use.
    Raises EdgespecError when the folder is no engine, is damaged, or its runtime is not available here.
    """
    if threads < 1:
        raise EdgespecError(f"a draft engine cannot run on {threads} threads: give 1 or more.")
    folder = Path(path)
    manifest = EngineManifest.load(folder)
    try:
        calibration = read_calibration(folder)
    except (ValueError, EdgespecError) as error:
        raise EdgespecError(
            f"the calibration in {folder} cannot be read ({error}): "
            f"build the engine again with `{manifest.rebuild_command(folder)}`."
        ) from None
    runner = open_runner(runtime, folder, manifest, threads)
    return OpenEngine(folder, manifest, calibration, runner, open_eyes(runtime, folder, manifest, threads))
