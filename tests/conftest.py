"""The tests run from their own folder: a child process must import the installed package, never the source folder.

`python -c` and `python -m` look into the current directory first, and the repository's root holds `edgespec/` without a
native module when the package is installed the ordinary way.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def away_from_the_sources() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path(__file__).parent)
        yield
