"""Drawing a PNG with matplotlib, which is imported when the first picture is drawn."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgespec.cli.extras import needs
from edgespec.core.errors import EdgespecError


@contextlib.contextmanager
def picture(file: Path, rows: int = 1, columns: int = 1, **settings: Any) -> Iterator[tuple[Any, Any]]:
    """Yields a matplotlib figure and its array [rows, columns] of axes; saves the figure at the end.

    settings: of `pyplot.subplots`. Raises EdgespecError without matplotlib, or if the file cannot be written.
    """
    with needs("demo"):
        import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(rows, columns, squeeze=False, **settings)
    for one in axes.flat:
        one.spines[["top", "right"]].set_visible(False)
    try:
        yield figure, axes
        figure.savefig(file, dpi=110)
    except (OSError, ValueError) as error:
        raise EdgespecError(f"the picture cannot be written to {file}: {error}.") from None
    finally:
        pyplot.close(figure)
