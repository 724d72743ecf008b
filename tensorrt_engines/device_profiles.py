"""The settings that `edgespec compile --target-device NAME` starts from: one file per device in profiles/.

The figures come from the devices' data sheets. What an engine really costs is measured where it runs.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgespec.core.errors import EdgespecError

tomllib: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
PROFILES = Path(__file__).parent / "profiles"


@dataclass(frozen=True)
class DeviceProfile:
    """compute_capability: "8.7", or "" for a CPU. memory_gb: the least that such a device has."""

    name: str
    description: str
    runtime: str
    compute_capability: str
    memory_gb: int
    precision: str
    max_len: int


def profile_names() -> list[str]:
    return sorted(file.stem for file in PROFILES.glob("*.toml"))


def load_profile(name: str) -> DeviceProfile:
    """Raises EdgespecError for a device that has no profile."""
    if name not in profile_names():
        raise EdgespecError(
            f"there is no device profile {name!r}: choose one of {', '.join(profile_names())}, or leave it out."
        )
    return DeviceProfile(name=name, **tomllib.loads((PROFILES / f"{name}.toml").read_text(encoding="utf-8")))
