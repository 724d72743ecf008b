"""Measurements as JSON, to be kept between processes, and read again with distrust. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from edgespec.core.measurements import Measurements

FORMAT_VERSION = 2
NOT_KEPT = {"clock", "rtt_ms", "jitter_ms", "server_drafts", "row_price"}
"""What a new session learns at once."""

LARGEST = 1e12


class BadMeasurements(ValueError):
    """This is no record of measurements, or a damaged one."""


def to_json(measurements: Measurements) -> dict[str, Any]:
    kept = asdict(measurements)
    return {"version": FORMAT_VERSION, **{name: one for name, one in kept.items() if name not in NOT_KEPT}}


def from_json(data: object) -> Measurements:
    """Raises BadMeasurements."""
    if not isinstance(data, Mapping) or data.get("version") != FORMAT_VERSION:
        raise BadMeasurements
    measurements = Measurements()
    _fill(measurements, data, NOT_KEPT)
    return measurements


def _fill(kept: Any, data: object, leave: set[str]) -> None:
    """Set the fields of a dataclass from a mapping that has all of them, each a number of its kind."""
    if not isinstance(data, Mapping):
        raise BadMeasurements
    for field in fields(kept):
        if field.name in leave:
            continue
        present, found = getattr(kept, field.name), data.get(field.name)
        if is_dataclass(present):
            _fill(present, found, set())
        elif isinstance(present, list):
            if not isinstance(found, list) or len(found) != len(present):
                raise BadMeasurements
            setattr(kept, field.name, [_number(one) for one in found])
        elif present is not None:
            number = _number(found)
            setattr(kept, field.name, int(number) if isinstance(present, int) else number)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadMeasurements
    if not math.isfinite(value) or not 0 <= value <= LARGEST:
        raise BadMeasurements
    return float(value)
