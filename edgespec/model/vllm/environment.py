"""What vLLM reads of the environment, set before it is imported.

Nothing is sent home, there is one process with the V1 model runner, and standard output is left to edgespec.
"""

from __future__ import annotations

import os

from edgespec.core.errors import EdgespecError

RUNNER = "VLLM_USE_V2_MODEL_RUNNER"
SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    RUNNER: "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
}

OTHER_RUNNER = (
    "--engine vllm samples in vLLM's V1 model runner, and here its V2 runner is asked for, which edgespec has no "
    f"sampling for: unset {RUNNER}, and leave out arguments that need V2."
)


def prepare() -> None:
    """What is set already stays. Raises EdgespecError where that is the V2 model runner."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if os.environ[RUNNER] != SETTINGS[RUNNER]:
        raise EdgespecError(OTHER_RUNNER)
