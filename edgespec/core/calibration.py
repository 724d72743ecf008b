"""Calibration: from the margin of a noisy choice to the probability that the target chooses the same token.

The margin is best minus second-best of logit/T + Gumbel noise (of the logits at T = 0), for the draft
and for the exits alike; softmax probability tells far less, because it does not know the draw. Pure
numpy: the edge weighs its draft tree with it, the server its hints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgespec.core.errors import EdgespecError

FORMAT_VERSION = 1
TEMPERATURES = (0.0, 0.5, 0.8, 1.0)
"""The temperatures that the bundled pair is calibrated at; others use the nearest."""

_Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Calibration:
    """Per temperature and rank, a monotone piecewise-linear curve from margin to probability.

    Rank 0 is the best token, 1 the second best and so on; the margin is always that between the best
    two, so rank 0 rises with it and the other ranks fall.
    """

    curves: Mapping[float, tuple[_Curve, ...]]

    @classmethod
    def fit(
        cls,
        margins_by_temperature: Mapping[float, ArrayLike],
        correct_by_temperature: Mapping[float, ArrayLike],
        bins: int = 40,
    ) -> Calibration:
        """Fit from observations: margins float [N] and correct bool [N] or [N, ranks], per temperature."""
        curves = {}
        for temperature, margins_like in sorted(margins_by_temperature.items()):
            margins = np.asarray(margins_like, dtype=np.float64)
            correct = np.asarray(correct_by_temperature[temperature], dtype=np.float64)
            if margins.ndim != 1 or len(margins) == 0 or not np.isfinite(margins).all():
                raise EdgespecError(
                    "A calibration needs at least one finite margin a temperature: collect more."
                )
            correct = correct.reshape(len(margins), -1)
            curves[float(temperature)] = tuple(
                _fit_curve(margins, correct[:, rank], rising=rank == 0, bins=bins)
                for rank in range(correct.shape[1])
            )
        return cls(curves)

    @property
    def ranks(self) -> int:
        """How many ranks every temperature holds."""
        return min(len(curves) for curves in self.curves.values())

    def probability(self, margin: ArrayLike, temperature: float, rank: int = 0) -> Any:
        """The probability (0..1) that the target draws the token of this rank; an array for an array.

        Uses the nearest temperature's curve. A rank that was not fitted has probability 0.
        """
        nearest = min(self.curves, key=lambda known: (abs(known - temperature), known))
        curves = self.curves[nearest]
        values = np.asarray(margin, dtype=np.float64)
        probabilities = np.interp(values, *curves[rank]) if rank < len(curves) else np.zeros_like(values)
        return float(probabilities) if probabilities.ndim == 0 else probabilities

    def to_json(self) -> dict[str, Any]:
        """A plain dict for json.dump."""
        temperatures = [
            {
                "temperature": temperature,
                "ranks": [
                    {"margins": xs.round(5).tolist(), "probabilities": ys.round(5).tolist()}
                    for xs, ys in curves
                ],
            }
            for temperature, curves in sorted(self.curves.items())
        ]
        return {"version": FORMAT_VERSION, "temperatures": temperatures}

    @classmethod
    def from_json(cls, data: object) -> Calibration:
        """Read what `to_json` wrote; EdgespecError on anything else."""
        if not isinstance(data, dict) or data.get("version") != FORMAT_VERSION:
            raise EdgespecError(
                f"The calibration is not of version {FORMAT_VERSION}: make it again with `edgespec train`."
            )
        try:
            curves = {
                float(entry["temperature"]): tuple(
                    _checked_curve(rank["margins"], rank["probabilities"]) for rank in entry["ranks"]
                )
                for entry in data["temperatures"]
            }
            if not curves or not all(curves.values()) or not np.isfinite(list(curves)).all():
                raise ValueError
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EdgespecError(
                "The calibration is damaged: make it again with `edgespec train`, or restore the file."
            ) from error
        return cls(curves)


def expected_calibration_error(probabilities: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """Mean gap between stated probability and frequency over equally filled bins, weighted by their size."""
    stated = np.asarray(probabilities, dtype=np.float64)
    outcomes = np.asarray(correct, dtype=np.float64)
    order = np.argsort(stated, kind="stable")
    gaps = [
        abs(stated[part].mean() - outcomes[part].mean()) * len(part)
        for part in np.array_split(order, min(bins, len(order)))
        if len(part)
    ]
    return float(sum(gaps) / max(1, len(stated)))


def pool_adjacent_violators(values: Sequence[float], weights: Sequence[float]) -> NDArray[np.float64]:
    """The nearest non-decreasing sequence in weighted least squares (isotonic regression)."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        blocks.append((float(value), float(weight), 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            high, low = blocks[-2], blocks.pop()
            weight_of_both = high[1] + low[1]
            mean = (high[0] * high[1] + low[0] * low[1]) / weight_of_both
            blocks[-1] = (mean, weight_of_both, high[2] + low[2])
    return np.array([value for value, _, count in blocks for _ in range(count)])


def _fit_curve(margins: NDArray[np.float64], correct: NDArray[np.float64], rising: bool, bins: int) -> _Curve:
    """Isotonic regression over bins of equal count; knots at the bins' mean margins."""
    order = np.argsort(margins, kind="stable")
    parts = np.array_split(order, max(1, min(bins, len(order) // 20)))
    centres = np.array([margins[part].mean() for part in parts])
    weights = [float(len(part)) for part in parts]
    # One imaginary success and failure a bin: no finite sample shows a probability of exactly 0 or 1.
    rates = np.array([(correct[part].sum() + 1.0) / (len(part) + 2.0) for part in parts])
    sign = 1.0 if rising else -1.0
    return centres, np.clip(sign * pool_adjacent_violators(list(sign * rates), weights), 0.0, 1.0)


def _checked_curve(margins: object, probabilities: object) -> _Curve:
    """Raises ValueError where the knots are no monotone curve."""
    xs, ys = np.asarray(margins, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    if not (
        xs.ndim == 1
        and xs.shape == ys.shape
        and len(xs) > 0
        and np.isfinite(xs).all()
        and (np.diff(xs) >= 0).all()
        and ((ys >= 0) & (ys <= 1)).all()
        and ((np.diff(ys) >= 0).all() or (np.diff(ys) <= 0).all())
    ):
        raise ValueError
    return xs, ys
