"""Pictures of `edgespec plan`: lines over one swept number, heat maps over two."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgespec.cli.picture import picture
from edgespec.core.errors import EdgespecError
from edgespec.sim.plan import Prediction

Found = Mapping[tuple[float, ...], Sequence[Prediction]]
"""The predictions at each combination of the swept numbers' values."""


def draw(axes: Sequence[str], found: Found, file: Path) -> None:
    """axes: the names of the one or two swept numbers."""
    if len(axes) == 1:
        _draw_lines(axes[0], found, file)
    else:
        _draw_heat_maps(axes, found, file)


def _draw_lines(axis: str, found: Found, file: Path) -> None:
    """Tokens per second of every mode over one number."""
    with picture(file, figsize=(7, 4.2)) as (_, panels):
        axes = panels[0, 0]
        for predictions in zip(*found.values(), strict=True):
            speeds = [one.tokens_per_s for one in predictions]
            axes.plot(
                [value for (value,) in found], speeds, marker="o", markersize=3, label=predictions[0].mode
            )
        axes.set_xlabel(axis)
        axes.set_ylabel("tokens/s (simulated)")
        axes.legend(frameon=False, fontsize=9)


def _draw_heat_maps(names: Sequence[str], found: Found, file: Path) -> None:
    """For each mode but `cloud`, a map of its speed relative to `cloud` over two numbers.

    Raises EdgespecError unless `cloud` and another mode were played.
    """
    modes = [one.mode for one in next(iter(found.values()))]
    others = [mode for mode in modes if mode != "cloud"]
    if "cloud" not in modes or not others:
        raise EdgespecError("a heat map compares modes with cloud: name cloud and another in --modes.")
    across, up = (sorted({pair[i] for pair in found}) for i in (0, 1))
    gains = {mode: [[_gain(found[x, y], mode) for x in across] for y in up] for mode in others}
    most = max(1.05, *(gain for rows in gains.values() for row in rows for gain in row))
    size = (1.2 + 3.4 * len(others), 3.6)
    with picture(file, 1, len(others), figsize=size, layout="constrained") as (figure, panels):
        from matplotlib.colors import TwoSlopeNorm

        norm = TwoSlopeNorm(
            1.0, vmin=0.0, vmax=1.4 * most
        )  # white: as fast as cloud; no cell too dark to read
        for mode, axes in zip(others, panels[0], strict=True):
            image = axes.imshow(gains[mode], origin="lower", aspect="auto", cmap="RdBu", norm=norm)
            for row, values in enumerate(gains[mode]):
                for column, gain in enumerate(values):
                    axes.text(column, row, f"{gain:.2f}", ha="center", va="center", fontsize=7)
            axes.set_xticks(range(len(across)), [f"{one:g}" for one in across])
            axes.set_yticks(range(len(up)), [f"{one:g}" for one in up])
            axes.set_xlabel(names[0])
            axes.set_title(mode, fontsize=10)
        panels[0, 0].set_ylabel(names[1])
        figure.colorbar(image, ax=panels[0].tolist(), label="× cloud (simulated)")


def _gain(predictions: Sequence[Prediction], mode: str) -> float:
    speeds = {one.mode: one.tokens_per_s for one in predictions}
    return speeds[mode] / speeds["cloud"]
