"""What is played: the paper's Go2 timings divided by five, the driving pair, and how many rooms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgespec.cli.demo.figures import Pacing
from edgespec.cli.demo.runs import Setting
from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.engines.bundled import engine_beside
from edgespec.engines.model_folder import PAIR_FOLDER
from edgespec.robot.camera import HEIGHT, WIDTH
from edgespec.robot.commands import Limits
from edgespec.sim.emulated_link import LinkShape
from edgespec.sim.plan import NAMED

DIVISOR = 5
"""All times are the paper's divided by this; the simulated robot moves faster by the same factor."""

TIMES, BLOCK_TOKENS = NAMED["go2"], 4
"""Of the paper's Go2: a draft token, a verification, the communication; and the length of its blocks."""

RETRANSMIT_MS = 200.0
LOSS_PERCENT = 1.0
OUTAGE_MS = 5000.0
OFFLINE_AFTER_MS = 1000.0
WATCHDOG_MS = 2000.0
"""Longer than any mode takes from one commitment to the next."""

LONGEST_ANSWER = 96
ROBOT_PAIR = PAIR_FOLDER / "robot"


def scaled(paper_ms: float) -> float:
    return paper_ms / DIVISOR


@dataclass(frozen=True)
class RobotSetting:
    """target, engine: folders. rooms, seed: which trials."""

    target: Path
    engine: Path
    rooms: int
    seed: int

    @classmethod
    def of(cls, pair: Path | None, rooms: int, seed: int) -> RobotSetting:
        """Raises EdgespecError where there is no pair."""
        folder = pair or ROBOT_PAIR
        if not (folder / "target" / "config.json").is_file():
            raise EdgespecError(
                f"there is no driving pair in {folder}: train one with `edgespec train robot --out DIR` and give "
                "--pair DIR."
            )
        sees = (folder / "draft" / "config.json").is_file()
        draft, size = (folder / "draft", f"{WIDTH}x{HEIGHT}") if sees else (folder / "blind", None)
        return cls(folder / "target", engine_beside(draft, folder / "engine", size), rooms, seed)

    def play(self, loss_percent: float = 0.0) -> Setting:
        """As the demo of texts plays it."""
        link = LinkShape(
            rtt_ms=scaled(TIMES["rtt_ms"]),
            loss_percent=loss_percent,
            retransmit_ms=scaled(RETRANSMIT_MS),
            seed=self.seed,
        )
        pacing = Pacing(scaled(TIMES["draft_ms"]), scaled(TIMES["forward_ms"]))
        params = SamplingParams(temperature=0.0, seed=self.seed, max_new_tokens=LONGEST_ANSWER)
        return Setting(link, pacing, params, BLOCK_TOKENS, ("--target", str(self.target)))


def limits() -> Limits:
    """The robot's, in the demo's time."""
    usual = Limits()
    return replace(
        usual,
        metres_per_s=DIVISOR * usual.metres_per_s,
        degrees_per_s=DIVISOR * usual.degrees_per_s,
    )
