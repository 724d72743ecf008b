"""Without the warnings and progress bars of the libraries that read models."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet(bars: bool = False) -> Iterator[None]:
    """Hide the warnings, and unless `bars` the progress, of transformers and torch; failures still raise."""
    import transformers

    progress: Any = transformers.utils.logging
    disabled, shown = logging.root.manager.disable, progress.is_progress_bar_enabled()
    logging.disable(logging.WARNING)
    if not bars:
        progress.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        if shown:
            progress.enable_progress_bar()
