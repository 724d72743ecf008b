"""The drafting loop: what to draft and what to send. Pure: no I/O, no clock, no model."""
