"""How often predictions came true, beside how often they said they would: what corrects a calibration. Pure.

A decision that gives something up asks for `most_share`, the upper end of an interval: a mean of a few observations may
be far off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

DECAY = 0.99
LEAST_PRIOR = 1.0

SURE = 2.6
"""Standard errors to either end of an interval: what lies beyond is seen once in two hundred times."""

CALIBRATION_WEIGHT = 4.0
"""Observations that the calibration's own word counts for, in an interval."""


@dataclass
class CalibrationRatio:
    """How often predictions came true, divided by how often their probabilities said they would.

    It corrects a calibration that does not fit this text. It starts at 1 and follows about the last hundred
    observations. prior: observations that the calibration is trusted for; it fades.
    """

    prior: float = 15.0
    _first_prior: float = 0.0
    _foretold: float = 0.0
    _true: float = 0.0
    _count: float = 0.0

    def __post_init__(self) -> None:
        self._first_prior = self._first_prior or self.prior

    def observe(self, probability: float, came_true: bool) -> None:
        self._foretold = self._foretold * DECAY + probability
        self._true = self._true * DECAY + came_true
        self._count = self._count * DECAY + 1
        self.prior = max(LEAST_PRIOR, self.prior * DECAY)

    @property
    def share(self) -> float:
        """How often it came true, lately; while little was observed, as often as foretold, and one half at first."""
        foretold = self._foretold / self._count if self._count else 0.5
        return (self._true + CALIBRATION_WEIGHT * foretold) / (self._count + CALIBRATION_WEIGHT)

    @property
    def most_share(self) -> float:
        """The most that the share may be, after so few observations (Wilson's interval)."""
        share, count = self.share, self._count + CALIBRATION_WEIGHT
        part = SURE**2 / count
        half = math.sqrt(part * share * (1 - share) + part**2 / 4)
        return (share + part / 2 + half) / (1 + part)

    @property
    def ratio(self) -> float:
        return (self._true + self.prior) / (self._foretold + self.prior)

    def corrected(self, probability: float) -> float:
        return min(0.995, probability * self.ratio)

    def forgive(self) -> None:
        """Keep a quarter of what was observed, and trust the calibration as at first."""
        self._foretold, self._true, self._count = self._foretold / 4, self._true / 4, self._count / 4
        self.prior = self._first_prior


HINT_PRIOR = 5.0
"""Small, so that hints that never come true are found out within a few forwards."""


@dataclass
class CalibrationRatios:
    """Of the draft's best choices, of its other choices, and of hints."""

    best: CalibrationRatio = field(default_factory=CalibrationRatio)
    others: CalibrationRatio = field(default_factory=CalibrationRatio)
    hints: CalibrationRatio = field(default_factory=lambda: CalibrationRatio(HINT_PRIOR))
