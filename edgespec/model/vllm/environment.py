"""What vLLM reads of the environment, set before it is imported.

Nothing is sent home, there is one process with the V1 model runner, and standard output is left to edgespec.
"""

from __future__ import annotations

import os

SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
}


def prepare() -> None:
    """What is set already stays."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
