"""The progress bar of everything that takes minutes while training."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(title: str, total: float, quiet: bool, **form: Any) -> tqdm[None]:
    """A bar on a terminal; a line every half minute where output goes to a file. form: further options of tqdm."""
    every_s = 0.1 if sys.stderr.isatty() else 30.0
    return tqdm(total=total, desc=title, disable=quiet, mininterval=every_s, **form)
