"""What edgespec raises: one sentence that says what is wrong and what to do."""

import reprlib


class EdgespecError(Exception):
    """An error whose message is one sentence for a person: what is wrong and what to do about it."""


def first_line(error: Exception | str) -> str:
    """Another library's error, or what it says, as part of a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0].strip().rstrip(".: ") if lines else type(error).__name__


_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = _SHOWN.maxlong = 80


def shown(value: object) -> str:
    """A value in a message: its beginning, where it is long."""
    return _SHOWN.repr(value)
