"""What everything else builds on: tree, slots, noise, calibration, tokens, text. It imports nothing of ours."""
