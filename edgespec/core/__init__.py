"""What everything else builds on: draft tree, slots, noise, calibration, tokens and text. It imports nothing of ours."""
