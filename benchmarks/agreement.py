"""How often a pair's draft and exits choose as the target does, from the reports that `edgespec train` wrote.

    python -m benchmarks.agreement --pair DIR --json docs/results/agreement.json

The rates are of the target's own answers to held-out prompts. by_depth: the share of the draft's choices that are right
one token behind the text, two tokens, and so on, where all before were right.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from benchmarks.pairs import HELP, Pair
from benchmarks.results import Results, Row, options
from edgespec.core.errors import EdgespecError

NOTES = "Measured after training, on the half of the held-out answers that fitted no calibration."
DEPTHS = 4


def main() -> int:
    arguments = options("agreement", __doc__, {}, pair=(None, HELP))
    pair = Pair.of(arguments.pair)
    results = Results("agreement", NOTES, arguments.json)
    for row in _rows(pair):
        results.add(row)
    return 0


def _rows(pair: Pair) -> Iterator[Row]:
    """A row for the draft and each exit, at each temperature."""
    for folder in (pair.draft, pair.exits):
        file = folder / "report.json"
        if not file.is_file():
            raise EdgespecError(
                f"{folder} holds no report.json: `edgespec train` writes one beside the weights."
            )
        report = json.loads(file.read_text(encoding="utf-8"))
        for name, by_temperature in report["agreement"].items():
            for temperature, cell in by_temperature.items():
                yield {
                    "chooses": name,
                    "temperature": float(temperature),
                    "rate": cell["rate"],
                    **{f"rate_at_{depth}": rate for depth, rate in enumerate(cell["by_depth"][:DEPTHS], 1)},
                    "calibration_error": cell["calibration_error"],
                    "positions": cell["positions"],
                }


if __name__ == "__main__":
    sys.exit(main())
