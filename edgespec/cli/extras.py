"""Packages that only some installations have."""

import contextlib
from collections.abc import Iterator

from edgespec.core.errors import EdgespecError


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around imports and what imports on use: a missing package becomes an error that says how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise EdgespecError(f"this needs {error.name}: pip install 'edgespec[{extra}]'.") from None
