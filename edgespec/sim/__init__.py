"""The machine on a simulated clock: what every mode would give on a link. Pure."""
