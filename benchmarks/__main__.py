"""The whole suite in one command; results go to docs/results, tables and pictures to docs/benchmarks.md.

    python -m benchmarks                    # everything there is; see --help for the minutes
    python -m benchmarks latency peers      # these parts only
    python -m benchmarks --quick            # shows that all of it runs; results go to build/benchmarks

Each part is a process of its own. What a part has measured is kept when it fails or is interrupted (Ctrl-C).
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import PAGES, ROOT, write_page
from benchmarks.results import FOLDER, results, save

HERE = Path(__file__).parent
QUICK_FOLDER = ROOT / "build" / "benchmarks"
INTERRUPTED = 130


@dataclass(frozen=True)
class Part:
    """A benchmark. file: its place under benchmarks/; printed: it writes no results file, so what it prints is kept."""

    name: str
    file: str
    minutes: float
    arguments: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    printed: bool = False

    @property
    def exists(self) -> bool:
        return (HERE / self.file).exists()

    def command(self, quick: bool, folder: Path) -> list[str]:
        arguments = list(self.quick if quick else self.arguments)
        kept = [] if self.printed else ["--json", str(folder / f"{self.name}.json")]
        return [sys.executable, "-m", self.module, *arguments, *kept]

    @property
    def module(self) -> str:
        return "benchmarks." + self.file.removesuffix(".py").replace("/__main__", "").replace("/", ".")


_LATENCY = (
    "--prompts",
    "2",
    "--max-new-tokens",
    "32",
    "--settings",
    "paper-jetson,a100-orin,unpaced",
    "--temperatures",
    "0.8",
)
_QUICK_LATENCY = ("--prompts", "1", "--max-new-tokens", "16", "--settings", "unpaced", "--temperatures", "0")

_KERNELS = ("--shapes", "32000x4096,128256x4096", "--dtypes", "float32,bfloat16,float16", "--no-compiled")
_QUICK_KERNELS = ("--shapes", "4096x320", "--rows", "1", "--no-compiled")

PARTS = (
    Part("latency", "latency.py", 3.0, _LATENCY, _QUICK_LATENCY),
    Part(
        "plan_validation",
        "plan_validation.py",
        6.0,
        (),
        ("--prompts", "1", "--max-new-tokens", "16", "--links", "1"),
    ),
    Part("peers", "peers/__main__.py", 6.0, (), ("--quick",)),
    Part("overhead", "overhead.py", 1.0, (), ("--quick",)),
    Part("capacity", "capacity.py", 3.0, (), ("--tokens", "8", "--parts", "unpaced", "prefix")),
    Part("idle", "idle.py", 2.0, ("--sessions", "240"), ("--sessions", "20", "--seconds", "2")),
    Part("wire", "wire.py", 1.0, (), ("--quick",)),
    Part("link", "link.py", 6.0, ("--samples", "1000"), ("--quick",)),
    Part("attack", "attack.py", 2.0, ("--rate", "2000"), ("--rate", "500", "--seconds", "2", "--pairs", "1")),
    Part("kernels", "roofline.py", 10.0, _KERNELS, _QUICK_KERNELS),
    Part("engines", "draft_engines.py", 2.0, (), ("--rounds", "2"), printed=True),
    Part(
        "soak", "soak.py", 2.0, ("--minutes", "1", "--devices", "16"), ("--minutes", "0.2", "--devices", "4")
    ),
)


def main() -> int:
    arguments = _arguments()
    folder = arguments.results or (QUICK_FOLDER if arguments.quick else FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [part for part in PARTS if part.name in arguments.parts]
    said, interrupted = [], False
    try:
        for part in chosen:
            said.append(_run(part, arguments.quick, folder))
            print(said[-1], flush=True)
    except KeyboardInterrupt:
        interrupted = True
        said.append("interrupted: what was measured until then is kept.")
    pages = PAGES if folder == FOLDER else (_page(folder),)
    for page in pages:
        write_page(page, folder)
    print("\n".join(["", *said, *(f"written: {page}" for page in pages)]))
    return INTERRUPTED if interrupted else int(any("failed" in line for line in said))


def _run(part: Part, quick: bool, folder: Path) -> str:
    """Run one part; a sentence on how it went."""
    start_s = time.monotonic()
    command = part.command(quick, folder)
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE if part.printed else None,
        text=True,
        start_new_session=True,  # an interruption is passed on, once, and the part is given time to end
    )
    try:
        if part.printed:
            _keep_what_it_prints(part, command[3:], process, folder)
        status = process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise
    seconds = time.monotonic() - start_s
    how = "done" if status == 0 else f"failed (exit status {status}; what it had measured is kept)"
    return f"{part.name}: {how}, {seconds:.0f} s"


def _keep_what_it_prints(
    part: Part, arguments: Sequence[str], process: subprocess.Popen[str], folder: Path
) -> None:
    assert process.stdout is not None
    lines: list[str] = []
    try:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    finally:
        cell = {"command": " ".join([f"python -m {part.module}", *arguments]), "output": "".join(lines)}
        if lines:
            save(
                results(part.name, [cell], f"As `{cell['command']}` prints it."), folder / f"{part.name}.json"
            )


def _page(folder: Path) -> Path:
    page = folder / "benchmarks.md"
    page.write_text("# Benchmarks\n\n<!-- results -->\n<!-- /results -->\n", encoding="utf-8")
    return page


def _arguments() -> argparse.Namespace:
    there = [part.name for part in PARTS if part.exists]
    minutes = ", ".join(f"{part.name} {part.minutes:g}" for part in PARTS if part.exists)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=f"Minutes on four cores, about: {minutes}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"some of {', '.join(there)}; all if none is named"
    )
    parser.add_argument("--quick", action="store_true", help="as little as shows that everything runs")
    parser.add_argument("--results", type=Path, help="the folder for results and pictures")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.parts if name not in there]:
        parser.error(f"there is no part {unknown[0]!r}: choose among {', '.join(there)}.")
    arguments.parts = arguments.parts or there
    return arguments


if __name__ == "__main__":
    sys.exit(main())
