"""Garbage collection in a process that answers others."""

import gc


def leave_loaded_out() -> None:
    """Collections to come leave out what is loaded now: they would go through every module's objects, and texts would
    wait for it. For a process that does nothing else."""
    gc.collect()
    gc.freeze()
