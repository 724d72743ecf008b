"""What the demo leaves: one JSON object, with the hardware, the link and the paces that it was measured with."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edgespec._version import __version__
from edgespec.cli.demo.runs import Setting

FORMAT_VERSION = 1


def report(figures: Mapping[str, Any], same: bool, setting: Setting, prompts: int) -> dict[str, Any]:
    """The demo's result as a JSON object."""
    return {
        "format_version": FORMAT_VERSION,
        "modes": dict(figures),
        "identical": same,
        "link": {
            "emulated": True,
            "rtt_ms": setting.link.rtt_ms,
            "jitter_ms": setting.link.jitter_ms,
            "mbps": setting.link.mbps,
        },
        "pacing": {
            "paced": bool(setting.pacing.draft_ms or setting.pacing.verify_ms),
            "draft_pace_ms": setting.pacing.draft_ms,
            "verify_pace_ms": setting.pacing.verify_ms,
            "pace_rows": setting.pacing.rows,
        },
        "sampling": {
            "temperature": setting.params.temperature,
            "seed": setting.params.seed,
            "max_new_tokens": setting.params.max_new_tokens,
        },
        "draft_tokens": setting.draft_tokens,
        "prompts": prompts,
        "hardware": hardware(),
        "versions": versions(),
    }


def hardware() -> dict[str, Any]:
    """What this ran on."""
    return {"machine": platform.machine(), "processor": _processor(), "cores": os.cpu_count()}


def versions() -> dict[str, str]:
    """What this ran with; packages that are not installed are left out."""
    found = {"edgespec": __version__, "python": platform.python_version()}
    for package in ("torch", "transformers", "onnxruntime", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
