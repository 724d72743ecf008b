"""What edgespec raises: one sentence that says what is wrong and what to do."""


class EdgespecError(Exception):
    """An error whose message is one sentence for a person: what is wrong and what to do about it."""
