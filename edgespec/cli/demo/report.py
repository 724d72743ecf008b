"""The demo's result as one JSON object, with the machine and the settings it was measured with."""

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edgespec._version import __version__
from edgespec.cli.demo.runs import Setting

FORMAT_VERSION = 1


def report(figures: Mapping[str, Any], same: bool, setting: Setting, prompts: int) -> dict[str, Any]:
    """figures: of each mode, as `mode_figures` makes them. same: all modes generated the same texts."""
    link, pacing, params = setting.link, setting.pacing, setting.params
    return {
        "format_version": FORMAT_VERSION,
        "modes": dict(figures),
        "identical": same,
        "link": {"emulated": True, "rtt_ms": link.rtt_ms, "jitter_ms": link.jitter_ms, "mbps": link.mbps},
        "pacing": {
            "paced": bool(pacing.draft_ms or pacing.verify_ms),
            "draft_pace_ms": pacing.draft_ms,
            "verify_pace_ms": pacing.verify_ms,
            "pace_rows": pacing.rows,
        },
        "sampling": {name: asdict(params)[name] for name in ("temperature", "seed", "max_new_tokens")},
        "draft_tokens": setting.draft_tokens,
        "prompts": prompts,
        "hardware": hardware(),
        "versions": versions(),
    }


def hardware() -> dict[str, Any]:
    """This machine."""
    return {"machine": platform.machine(), "processor": _processor(), "cores": os.cpu_count()}


def versions() -> dict[str, str]:
    """Versions of edgespec, Python and the installed packages that matter."""
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
