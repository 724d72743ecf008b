"""The figures of `edgespec demo --robot`: what each mode took on the same rooms."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

from edgespec.cli.demo.report import hardware, versions
from edgespec.cli.demo.robot.drives import Drive
from edgespec.cli.demo.robot.setting import DIVISOR, LOSS_PERCENT, RobotSetting, limits
from edgespec.cli.demo.runs import Setting
from edgespec.robot.commands import Refused
from edgespec.robot.mission import LookRecord

FORMAT_VERSION = 1


def mode_figures(drives: Sequence[Drive], cloud: Sequence[Drive]) -> dict[str, Any]:
    """A mode's figures over its drives. cloud: those of `cloud` in the same rooms. Times in the demo's milliseconds;
    commands_a_minute: of the time that answers took, in the demo's minutes."""
    looks = _looks(drives)
    answers_s = sum(look.answer_ms or 0.0 for look in looks) / 1e3
    tokens_per_s = _tokens_per_s(drives)
    commands = sum(not isinstance(command, Refused) for look in looks for command in look.commands)
    return {
        "looks": len(looks),
        "tokens": sum(len(look.tokens) for look in looks),
        "tokens_per_s": tokens_per_s,
        "speed_vs_cloud": tokens_per_s / _tokens_per_s(cloud),
        "first_token_ms": median(look.first_token_ms or 0.0 for look in looks),
        "first_command_ms": median(look.first_command_ms or 0.0 for look in looks),
        "answer_ms": median(look.answer_ms or 0.0 for look in looks),
        "goal_ms": fmean(drive.goal_ms for drive in drives),
        "commands_a_minute": commands / (answers_s / 60),
        "bytes_a_look": sum(look.bytes for look in looks) / len(looks),
        "success": sum(drive.trial.reached for drive in drives) / len(drives),
    }


def identical(drives: Sequence[Drive]) -> bool:
    """Whether all modes generated the same tokens in the same rooms."""
    texts: dict[int, list[list[int]]] = {}
    return all(texts.setdefault(drive.room, drive.texts) == drive.texts for drive in drives)


def by_mode(drives: Sequence[Drive]) -> dict[str, Any]:
    """Each mode's figures, over the rooms that cloud was driven in too."""
    cloud = [drive for drive in drives if drive.mode == "cloud"]
    return {
        mode: mode_figures(
            own := [drive for drive in drives if drive.mode == mode],
            [drive for drive in cloud if drive.room in {one.room for one in own}],
        )
        for mode in dict.fromkeys(drive.mode for drive in drives)
    }


def report(
    drives: Sequence[Drive],
    lossy: Sequence[Drive],
    outage: dict[str, Any] | None,
    robot: RobotSetting,
    setting: Setting,
) -> dict[str, Any]:
    """The object that `--json` writes. lossy: the drives over a link that loses LOSS_PERCENT. outage: its figures,
    where an answer could be interrupted."""
    modes, link, pacing = by_mode(drives), setting.link, setting.pacing
    return {
        "format_version": FORMAT_VERSION,
        "modes": modes,
        "identical": identical([*drives, *lossy]),
        "success": next(iter(modes.values()))["success"],
        "rooms": robot.rooms,
        "seed": robot.seed,
        "link": {"emulated": True, "rtt_ms": link.rtt_ms, "loss_percent": 0.0},
        "pacing": {
            "paced": True,
            "label": f"the paper's Go2 timings divided by {DIVISOR}",
            "divisor": DIVISOR,
            "draft_pace_ms": pacing.draft_ms,
            "verify_pace_ms": pacing.verify_ms,
            "draft_tokens": setting.draft_tokens,
            "metres_per_s": limits().metres_per_s,
        },
        "hardware": hardware(),
        "versions": versions(),
        "lossy": {"loss_percent": LOSS_PERCENT, "modes": by_mode(lossy)},
        "outage": outage,
    }


def _looks(drives: Sequence[Drive]) -> list[LookRecord]:
    return [look for drive in drives for look in drive.outcome.looks]


def _tokens_per_s(drives: Sequence[Drive]) -> float:
    looks = _looks(drives)
    return sum(len(look.tokens) for look in looks) / (sum(look.answer_ms or 0.0 for look in looks) / 1e3)
