"""A robot that looks, says and goes: simulated rooms, the words between robot and model, commands, and safety.

Nothing here imports torch: this runs on the robot. `edgespec.train.robot` trains models for it.
"""
