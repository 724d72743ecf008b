"""Lists the benchmarks, or runs one: `python -m benchmarks`, `python -m benchmarks wire --quick`.

python -m benchmarks                    # what there is
python -m benchmarks latency --quick    # one of them, with its options, as python -m benchmarks.latency
python -m benchmarks all --quick        # shows that all run
python -m benchmarks all                # all, into docs/results; then benchmarks.report makes the tables
python -m benchmarks all --again        # those too whose results are of the present code

A benchmark's results come into docs/results when it has ended, so `all` goes on where it was stopped.
"""

from __future__ import annotations

import ast
import importlib.util
import runpy
import subprocess
import sys
from pathlib import Path

from benchmarks.measured_code import code_hash
from benchmarks.results import FOLDER, ROOT, load
from edgespec.core.errors import EdgespecError

MEASURING = (
    "latency", "plan_validation", "peers", "overhead", "exactness", "wire", "link", "kernels", "hints", "load",
    "clients", "fleet", "attack", "prefix_probe", "api", "memory", "edge", "criterion", "neighbours", "hint_worth",
    "robot",
)  # fmt: skip

NEEDS = {"fleet": "ray"}
"""Packages that only some environments have, and the extra of the same name; without one `all` leaves it out."""

OTHERS = ("acceptance", "agreement", "decoders", "vllm_hooks", "house", "page_picture", "report")
"""Those that `all` leaves out: they need models, engines or a browser that are not here, or measure no speed."""


def main() -> int:
    name, *options = sys.argv[1:] or [""]
    if name == "all":
        return _run_all("--quick" in options, "--again" in options)
    if name in (*MEASURING, *OTHERS):
        sys.argv[1:] = options
        runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)
    print(__doc__)
    for one in (*MEASURING, *OTHERS):
        print(f"{one:16} {_first_line(one)}")
    return 0 if name in ("", "-h", "--help") else 2


def _first_line(name: str) -> str:
    file = Path(__file__).with_name(f"{name}.py")
    source = file if file.exists() else file.with_suffix("") / "__main__.py"
    return (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def _run_all(quick: bool, again: bool) -> int:
    """Each in a process of its own. What one that failed has measured stays in build/benchmarks."""
    failed = []
    for name in MEASURING:
        results, measured = FOLDER / f"{name}.json", ROOT / "build" / "benchmarks" / f"{name}.json"
        if not (quick or again) and _is_current(results):
            print(f"== {name}: measured with this code already", flush=True)
            continue
        package = NEEDS.get(name)
        if package is not None and importlib.util.find_spec(package) is None:
            print(f"== {name}: left out, it needs {package}: pip install '.[{package}]'", flush=True)
            continue
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(measured), *["--quick"] * quick]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append(name)
        elif not quick:
            measured.replace(results)
    print(f"failed: {', '.join(failed)}" if failed else "all ran")
    return 1 if failed else 0


def _is_current(results: Path) -> bool:
    """These results are there, and of the code as it is."""
    try:
        content = load(results)
    except EdgespecError:
        return False
    return bool(content.get("code") == code_hash(content["kind"]))


if __name__ == "__main__":
    sys.exit(main())
