"""The recipe of the bundled pair: corpus -> tokenizer -> target -> draft -> exits -> model card.

Every stage has a budget in minutes. The draft and the exit heads are distilled from the target's distributions, never
from the text. `edgespec train pair --minutes 60` runs all of it.
"""
