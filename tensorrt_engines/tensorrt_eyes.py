"""A draft's vision encoder on the GPU: a plan without open dimensions, which one context runs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError
from edgespec.tensorrt_engines.device_memory import DeviceMemory
from edgespec.tensorrt_engines.draft_shape import EyesShape
from edgespec.tensorrt_engines.tensorrt_api import ErrorLog


class TensorRTEyes:
    """An `Eyes`; its arguments are those of `TensorRTRunner`. Raises EdgespecError."""

    def __init__(
        self, plan: bytes, shape: EyesShape, api: Any, memory: DeviceMemory, build_command: str
    ) -> None:
        self.shape = shape
        self._memory, self._log = memory, ErrorLog(api)
        self._failed = f"build it again with `{build_command}`."
        sizes = (shape.height * shape.width * 3, shape.rows * shape.features * 4)
        with memory.active():
            self._runtime = api.Runtime(self._log.logger)
            self._engine = self._runtime.deserialize_cuda_engine(plan)
            context = None if self._engine is None else self._engine.create_execution_context()
            if context is None or not context.set_optimization_profile_async(0, memory.stream):
                raise EdgespecError(
                    f"the vision encoder's plan cannot be opened ({self._log.first()}): {self._failed}"
                )
            self._context = context
            self._pixels, self._features = (memory.allocate(size) for size in sizes)
            self._staged_pixels, self._staged_features = (memory.pinned(size) for size in sizes)
            self._bind()

    def _bind(self) -> None:
        context, size = self._context, (self.shape.height, self.shape.width, 3)
        if not context.set_input_shape("pixels", size):
            raise EdgespecError(
                f"the vision encoder's plan takes no pictures of {size[1]}x{size[0]}: {self._failed}"
            )
        context.set_tensor_address("pixels", self._pixels.address)
        context.set_tensor_address("features", self._features.address)

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self._staged_pixels[:] = pixels.reshape(-1)
        with self._memory.active():
            self._memory.upload(self._pixels, self._staged_pixels)
            if not self._context.execute_async_v3(self._memory.stream):
                raise EdgespecError(f"the vision encoder's plan did not run: {self._failed}")
            self._memory.download(self._staged_features, self._features)
            self._memory.synchronize()
        rows: NDArray[np.float32] = self._staged_features.view(np.float32).copy()
        return rows.reshape(self.shape.rows, self.shape.features)
