"""What everything else stands on: the draft tree, slots, noise, calibration, tokens and text. It imports nothing of ours."""
