"""Pictures of `edgespec plan`: lines over one swept number, heat maps over two. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgespec.core.errors import EdgespecError

if TYPE_CHECKING:
    from edgespec.sim.plan import Prediction


def draw_lines(axis: str, found: Mapping[float, Sequence[Prediction]], picture: Path) -> None:
    """Tokens a second of every mode over one number."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    rows = list(found.values())
    for i, first in enumerate(rows[0]):
        speeds = [row[i].tokens_per_s for row in rows]
        axes.plot(list(found), speeds, marker="o", markersize=3, label=first.mode)
    axes.set_xlabel(axis)
    axes.set_ylabel("tokens a second (simulated)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    _save(pyplot, figure, picture)


def draw_heat_maps(
    names: tuple[str, str], found: Mapping[tuple[float, float], Sequence[Prediction]], picture: Path
) -> None:
    """One map for each mode but `cloud`: how many times as fast as `cloud`, over two numbers.

    Raises EdgespecError where `cloud` is not among the modes, or nothing is beside it.
    """
    pyplot = _pyplot()
    from matplotlib.colors import TwoSlopeNorm

    across = sorted({one for one, _ in found})
    up = sorted({one for _, one in found})
    modes = [one.mode for one in next(iter(found.values()))]
    others = [mode for mode in modes if mode != "cloud"]
    if "cloud" not in modes or not others:
        raise EdgespecError("a heat map compares modes with cloud: name cloud and another in --modes.")
    figure, panels = pyplot.subplots(
        1, len(others), figsize=(1.2 + 3.4 * len(others), 3.6), squeeze=False, layout="constrained"
    )
    gains = {mode: [[_gain(found[x, y], mode) for x in across] for y in up] for mode in others}
    most = max(1.05, *(gain for rows in gains.values() for row in rows for gain in row))
    norm = TwoSlopeNorm(
        1.0, vmin=0.0, vmax=1.4 * most
    )  # white is as fast as cloud; no cell too dark for its number
    image = None
    for mode, axes in zip(others, panels[0], strict=True):
        image = axes.imshow(gains[mode], origin="lower", aspect="auto", cmap="RdBu", norm=norm)
        for row, values in enumerate(gains[mode]):
            for column, gain in enumerate(values):
                axes.text(column, row, f"{gain:.2f}", ha="center", va="center", fontsize=7)
        axes.set_xticks(range(len(across)), [f"{one:g}" for one in across])
        axes.set_yticks(range(len(up)), [f"{one:g}" for one in up])
        axes.set_xlabel(names[0])
        axes.set_title(mode, fontsize=10)
    panels[0][0].set_ylabel(names[1])
    figure.colorbar(image, ax=panels[0].tolist(), label="× cloud (simulated)")
    _save(pyplot, figure, picture)


def _gain(predictions: Sequence[Prediction], mode: str) -> float:
    speeds = {one.mode: one.tokens_per_s for one in predictions}
    return speeds[mode] / speeds["cloud"]


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise EdgespecError("the picture needs matplotlib: pip install 'edgespec[demo]'.") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(pyplot: Any, figure: Any, picture: Path) -> None:
    try:
        figure.savefig(picture, dpi=110)
    except (OSError, ValueError) as error:
        raise EdgespecError(f"the picture cannot be written to {picture}: {error}.") from None
    finally:
        pyplot.close(figure)
