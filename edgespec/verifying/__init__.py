"""The verifying loop: what to run and what it commits. Pure: no I/O, no clock, no model."""
