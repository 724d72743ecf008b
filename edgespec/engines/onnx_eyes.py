"""A draft's vision encoder on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError
from edgespec.engines.manifest import VISION_FILE, EngineManifest
from edgespec.engines.onnx_runner import open_graph
from edgespec.tensorrt_engines.draft_shape import EyesShape


class OnnxEyes:
    """An `Eyes`. threads: cores that one picture may use. Raises EdgespecError where the graph is not of `shape`."""

    def __init__(self, folder: Path, manifest: EngineManifest, shape: EyesShape, threads: int) -> None:
        self.shape = shape
        self._session = open_graph(VISION_FILE, folder, manifest, threads)
        taken, made = (
            [(value.name, value.type, value.shape) for value in values]
            for values in (self._session.get_inputs(), self._session.get_outputs())
        )
        if (taken, made) != (
            [("pixels", "tensor(uint8)", [shape.height, shape.width, 3])],
            [("features", "tensor(float)", [shape.rows, shape.features])],
        ):
            raise EdgespecError(
                f"{VISION_FILE} in {folder} does not take the pictures that its manifest names: build it again with "
                f"`{manifest.rebuild_command(folder)}`."
            )

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        features: NDArray[np.float32] = self._session.run(["features"], {"pixels": pixels})[0]
        return features
