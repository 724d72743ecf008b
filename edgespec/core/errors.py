"""What edgespec raises: one sentence that says what is wrong and what to do."""


class EdgespecError(Exception):
    """An error whose message is one sentence for a person: what is wrong and what to do about it."""


def first_line(error: Exception | str) -> str:
    """Another library's error, or what it says, as part of a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0].strip().rstrip(".: ") if lines else type(error).__name__
