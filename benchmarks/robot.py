"""The simulated robot in every mode, over a link, over one that loses pieces, and through an outage.

    python -m benchmarks.robot --pictures docs/demo --json docs/results/robot.json

Runs `edgespec demo --robot`: engines and link are paced at the paper's Go2 timings divided by five. --pictures DIR
takes the paths and the film.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.results import Results, Row, options

NOTES = (
    "A simulated robot in rendered rooms; engines are paced at the paper's Go2 timings divided by five, and the link "
    "is emulated; server, link and robot share one machine. Medians over looks; goal_ms is a mean."
)
PICTURES = {"robot.gif": "robot.gif", "paths.png": "robot-paths.png"}


def main() -> int:
    arguments = options(
        "robot",
        __doc__,
        {"rooms": 1},
        rooms=4,
        seed=1,
        pictures=(None, "a folder for the paths and the film"),
    )
    results = Results("robot", NOTES, arguments.json)
    with tempfile.TemporaryDirectory() as folder:
        figures = _played(Path(folder), arguments.rooms, arguments.seed)
        for row in _rows(figures):
            results.add(row)
        for made, kept in PICTURES.items() if arguments.pictures else ():
            Path(arguments.pictures, kept).write_bytes((Path(folder) / made).read_bytes())
    return 0 if figures["identical"] and figures["outage"]["identical"] else 1


def _played(folder: Path, rooms: int, seed: int) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "edgespec",
        "demo",
        "--robot",
        "--rooms",
        str(rooms),
        "--seed",
        str(seed),
    ]
    subprocess.run([*command, "--out", str(folder)], check=True, stdout=sys.stderr)
    figures: dict[str, Any] = json.loads((folder / "robot.json").read_text(encoding="utf-8"))
    return figures


def _rows(figures: dict[str, Any]) -> Iterator[Row]:
    """A row a mode and link, then the outage."""
    link = {"rtt_ms": figures["link"]["rtt_ms"], "rooms": figures["rooms"], "identical": figures["identical"]}
    for loss_percent, modes in (
        (0.0, figures["modes"]),
        (figures["lossy"]["loss_percent"], figures["lossy"]["modes"]),
    ):
        for mode, of_mode in modes.items():
            yield {"run": "rooms", "loss_percent": loss_percent, **link, "mode": mode, **of_mode}
    outage = {key: value for key, value in figures["outage"].items() if not isinstance(value, list)}
    yield {"run": "outage", "states": " → ".join(figures["outage"]["states"]), **outage}


if __name__ == "__main__":
    sys.exit(main())
