"""Lists the benchmarks, or runs one: `python -m benchmarks`, `python -m benchmarks wire --quick`.

python -m benchmarks                    # what there is
python -m benchmarks latency --quick    # one of them, with its options, as python -m benchmarks.latency
python -m benchmarks all --quick        # shows that all run
python -m benchmarks all                # all, into docs/results; then benchmarks.report makes the tables
"""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from pathlib import Path

from benchmarks.results import FOLDER, ROOT

MEASURING = (
    "latency", "plan_validation", "peers", "overhead", "exactness", "wire", "link", "kernels", "hints", "load",
    "attack", "prefix_probe", "api", "memory", "edge", "criterion",
)  # fmt: skip


def main() -> int:
    name, *options = sys.argv[1:] or [""]
    if name == "all":
        return _run_all("--quick" in options)
    if name in (*MEASURING, "house", "report"):
        sys.argv[1:] = options
        runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)
    print(__doc__)
    for one in (*MEASURING, "house", "report"):
        print(f"{one:16} {_first_line(one)}")
    return 0 if name in ("", "-h", "--help") else 2


def _first_line(name: str) -> str:
    file = Path(__file__).with_name(f"{name}.py")
    source = file if file.exists() else file.with_suffix("") / "__main__.py"
    return (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def _run_all(quick: bool) -> int:
    """Each in a process of its own; what one has measured is kept when it fails."""
    folder, failed = (ROOT / "build" / "benchmarks" if quick else FOLDER), []
    for name in MEASURING:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(folder / f"{name}.json")]
        if subprocess.run([*command, *["--quick"] * quick], cwd=ROOT, check=False).returncode:
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "all ran")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
