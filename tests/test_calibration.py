"""Calibration: monotone, in 0..1, true to its data, and exact through JSON; damage ends in a sentence."""

import copy
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgespec.core.calibration import Calibration, expected_calibration_error, pool_adjacent_violators
from edgespec.core.errors import EdgespecError

finite = st.floats(min_value=-1e3, max_value=1e3, allow_nan=False, width=32)


def observations(count: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Margins whose best token is right with probability 1 - exp(-margin)/2, its rival half of the other times."""
    random = np.random.default_rng(seed)
    margins = random.exponential(size=count)
    first = random.random(count) < 1.0 - 0.5 * np.exp(-margins)
    second = ~first & (random.random(count) < 0.5)
    return margins, np.stack([first, second], axis=1)


def fitted() -> Calibration:
    margins, correct = observations(4000)
    return Calibration.fit({0.0: margins, 0.8: margins}, {0.0: correct[:, :1], 0.8: correct})


@given(
    st.lists(st.tuples(finite, st.booleans(), st.booleans()), min_size=1, max_size=300),
    st.lists(finite, min_size=2),
)
def test_probabilities_lie_in_0_1_and_follow_the_margin_in_one_direction(
    rows: list[tuple[float, bool, bool]], asked: list[float]
) -> None:
    margins = np.array([margin for margin, _, _ in rows])
    correct = np.array([[first, second] for _, first, second in rows])
    calibration = Calibration.fit({0.8: margins}, {0.8: correct}, bins=10)
    for rank, direction in ((0, 1.0), (1, -1.0)):
        probabilities = calibration.probability(np.sort(asked), 0.8, rank)
        assert ((probabilities >= 0) & (probabilities <= 1)).all()
        assert (direction * np.diff(probabilities) >= -1e-12).all()


@given(st.lists(st.tuples(finite, st.floats(min_value=0.5, max_value=9)), min_size=1, max_size=40))
def test_pooling_is_monotone_keeps_the_weighted_mean_and_leaves_monotone_input_alone(
    pairs: list[tuple[float, float]],
) -> None:
    values, weights = [value for value, _ in pairs], [weight for _, weight in pairs]
    pooled = pool_adjacent_violators(values, weights)
    assert len(pooled) == len(values)
    assert (np.diff(pooled) >= -1e-9).all()
    assert np.average(pooled, weights=weights) == pytest.approx(np.average(values, weights=weights), abs=1e-6)
    np.testing.assert_allclose(pool_adjacent_violators(list(pooled), weights), pooled, atol=1e-9)


def test_pooling_is_the_least_squares_fit() -> None:
    isotonic_regression = pytest.importorskip("scipy.optimize").isotonic_regression

    random = np.random.default_rng(3)
    values, weights = random.normal(size=50), random.uniform(0.5, 2.0, size=50)
    expected = isotonic_regression(values, weights=weights).x
    np.testing.assert_allclose(pool_adjacent_violators(list(values), list(weights)), expected, atol=1e-12)


def test_stated_probabilities_match_frequencies_on_new_observations() -> None:
    margins, correct = observations(20_000, seed=1)
    calibration = fitted()
    for rank in (0, 1):
        error = expected_calibration_error(calibration.probability(margins, 0.8, rank), correct[:, rank])
        assert error < 0.03
    assert expected_calibration_error(np.full(len(margins), 0.5), correct[:, 0]) > 0.15


@settings(max_examples=30)
@given(st.lists(finite, min_size=1, max_size=20), st.floats(min_value=0, max_value=2))
def test_json_gives_the_same_probabilities_back(asked: list[float], temperature: float) -> None:
    calibration = fitted()
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json())))
    for rank in range(2):
        np.testing.assert_allclose(
            again.probability(asked, temperature, rank),
            calibration.probability(asked, temperature, rank),
            atol=1e-4,
        )
    assert again.to_json() == Calibration.from_json(again.to_json()).to_json()


def test_the_nearest_temperature_answers_and_an_unknown_rank_has_no_probability() -> None:
    margins, correct = observations(1000)
    calibration = Calibration.fit({0.0: margins, 1.0: margins}, {0.0: correct[:, 0], 1.0: ~correct[:, 0]})
    assert calibration.probability(1.5, 0.1) == calibration.probability(1.5, 0.0)
    assert (
        calibration.probability(1.5, 5.0)
        == calibration.probability(1.5, 1.0)
        != calibration.probability(1.5, 0.0)
    )
    assert calibration.ranks == 1
    assert calibration.probability(1.5, 0.0, rank=3) == 0.0


def test_one_margin_gives_a_float_and_many_give_an_array() -> None:
    calibration = fitted()
    assert isinstance(calibration.probability(0.3, 0.8), float)
    assert calibration.probability(np.zeros((2, 3)), 0.8).shape == (2, 3)


def _without_version(data: dict[str, Any]) -> object:
    return {name: value for name, value in data.items() if name != "version"}


def _of_another_version(data: dict[str, Any]) -> object:
    return {**data, "version": 99}


def _without_temperatures(data: dict[str, Any]) -> object:
    return {**data, "temperatures": []}


def _with(name: str, values: object) -> Any:
    def damage(data: dict[str, Any]) -> object:
        data["temperatures"][0]["ranks"][0][name] = values
        return data

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: None,
        lambda data: [data],
        _without_version,
        _of_another_version,
        _without_temperatures,
        _with("margins", []),
        _with("margins", [2.0, 1.0]),
        _with("probabilities", "high"),
        _with("probabilities", [float("nan")]),
        _with("probabilities", [1.5]),
    ],
)
def test_damaged_json_is_refused_in_one_sentence(damage: Any) -> None:
    data = damage(copy.deepcopy(fitted().to_json()))
    with pytest.raises(EdgespecError, match=r"^The calibration .*\.$"):
        Calibration.from_json(data)


def test_fitting_needs_a_finite_margin() -> None:
    for margins in (np.zeros(0), np.full(10, np.nan)):
        with pytest.raises(EdgespecError, match="at least one finite margin"):
            Calibration.fit({0.8: margins}, {0.8: np.ones(len(margins), bool)})
