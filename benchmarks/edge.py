"""What an edge costs a small device: memory, time to the first token, and the build from the sources.

    python -m benchmarks.edge --build --json docs/results/edge.json

Times are of the processor, but for the build's `wall_s`, which counts where `load_average` is hardly above the number
of cores. The build is cold: no ccache, no link to an earlier build.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import ROOT, Results, Row, options

NOTES = "The edge runs the bundled draft alone, without torch. The build is that of `pip install`, without ccache."

REPORT = """
import json, re, sys, time
status = open("/proc/self/status").read()
mib = int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) / 1024
print(json.dumps({"mib": mib, "torch": "torch" in sys.modules, **times}))
"""
RUNTIME = "import numpy, onnxruntime, tokenizers; times = {}"
EDGE = """
import time
started = time.process_time()
import edgespec
times = {"import_s": time.process_time() - started}
from edgespec.edge.device_session import DeviceSession
with DeviceSession(
    edgespec.load_draft(edgespec.bundled_engine()), edgespec.SamplingParams(max_new_tokens=64)
) as session:
    session.prompt("def read_lines(path):\\n")
    session.step()
    times["first_token_s"] = time.process_time() - started
    list(session)
"""

LAUNCHER = """
import json, resource, subprocess, sys
file, *command = sys.argv[1:]
code = subprocess.run(command).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
out = command[command.index("-o") + 1]
with open(file, "a") as lines:
    print(json.dumps({"out": out, "cpu_s": used.ru_utime + used.ru_stime, "kib": used.ru_maxrss}), file=lines)
sys.exit(code)
"""
"""Runs a compiler, and adds a line on what it took to a file."""


def main() -> int:
    arguments = options("edge", __doc__, {}, build=(False, "build from the sources as well: minutes"))
    results = Results("edge", NOTES, arguments.json)
    results.add({"measured": "process", **process()})
    if arguments.build:
        with tempfile.TemporaryDirectory() as folder:
            results.add({"measured": "build", **build(Path(folder))})
    return 0


def process() -> Row:
    """Of a process that writes 64 tokens with the bundled draft. above_runtime_mib: beside one that only imports numpy,
    onnxruntime and tokenizers."""
    runtime, edge = (_printed(program + REPORT) for program in (RUNTIME, EDGE))
    assert not edge.pop("torch"), "an edge must not import torch"
    return {**edge, "above_runtime_mib": edge["mib"] - runtime["mib"]}


def _printed(program: str) -> Row:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found: Row = json.loads(done.stdout)
    return found


def build(folder: Path) -> Row:
    """Of the native module. largest_mb: memory of the compiler process that took most, and largest: what it made."""
    import pybind11

    measures, launcher = folder / "measures", folder / "launcher.py"
    launcher.write_text(LAUNCHER, encoding="utf-8")
    launch = f"{sys.executable};{launcher};{measures}"
    configure = [
        "cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", f"-DCMAKE_CXX_COMPILER_LAUNCHER={launch}",
        f"-DCMAKE_CXX_LINKER_LAUNCHER={launch}",
    ]  # fmt: skip
    start_s = time.monotonic()
    for command in (configure, ["cmake", "--build", str(folder), "--parallel", str(os.cpu_count())]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall_s = time.monotonic() - start_s
    taken = [json.loads(line) for line in measures.read_text(encoding="utf-8").splitlines()]
    largest = max(taken, key=lambda one: one["kib"])
    return {
        "wall_s": wall_s,
        "load_average": os.getloadavg()[0],
        "cpu_s": sum(one["cpu_s"] for one in taken),
        "largest_mb": largest["kib"] * 1024 / 1e6,
        "largest": Path(largest["out"]).name,
    }


if __name__ == "__main__":
    sys.exit(main())
