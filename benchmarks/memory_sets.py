"""Three sets of repetitive work for a device with a memory: robot plans, JSON answers, edits of a file.

Each prompt shows the form by one example and asks for the next; the base model continues in that form.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

OBJECTS = ("cup", "plate", "bottle", "box", "lamp", "book", "towel", "can", "bowl", "tray")
PLACES = ("kitchen", "table", "shelf", "door", "desk")

PLAN = """\
def fetch_{thing}(robot):
    robot.move_to("{place}")
    robot.look_for("{thing}")
    robot.grasp("{thing}")
    robot.lift(height=0.2)
    robot.move_to("user")
    robot.release("{thing}")
    return True


"""

JSON_ANSWER = """\
answer = {{
    "request": {number},
    "status": "ok",
    "object": {{"name": "{thing}", "place": "{place}", "count": {count}}},
    "battery": {{"percent": {percent}, "charging": False}},
    "error": None,
}}

"""

FILE = """\
class {name}Reader:
    def __init__(self, path):
        self.path = path
        self.lines = []

    def read(self):
        with open(self.path) as file:
            self.lines = file.readlines()
        return len(self.lines)

    def close(self):
        self.lines = []


"""


def plans() -> Iterator[str]:
    for thing, place in _pairs():
        yield (
            PLAN.format(thing=thing, place=place)
            + f'def fetch_{_next(thing)}(robot):\n    robot.move_to("{place}")\n'
        )


def json_answers() -> Iterator[str]:
    for number, (thing, place) in enumerate(_pairs(), 17):
        shown = JSON_ANSWER.format(
            number=number, thing=thing, place=place, count=number % 4, percent=90 - number
        )
        yield shown + f'answer = {{\n    "request": {number + 1},\n    "status":'


def edits() -> Iterator[str]:
    for thing, place in _pairs():
        name, other = thing.title(), place.title()
        yield FILE.format(name=name) + f"class {other}{name}Reader:\n    def __init__(self, path"


SETS: dict[str, Callable[[], Iterator[str]]] = {
    "robot plans": plans,
    "JSON answers": json_answers,
    "edits": edits,
}


def prompts(name: str, count: int) -> list[str]:
    """The first `count` of a set, in order."""
    return list(itertools.islice(SETS[name](), count))


def _pairs() -> Iterator[tuple[str, str]]:
    return (
        (OBJECTS[(i * 3 + j) % len(OBJECTS)], PLACES[j])
        for i in range(len(OBJECTS))
        for j in range(len(PLACES))
    )


def _next(thing: str) -> str:
    return OBJECTS[(OBJECTS.index(thing) + 1) % len(OBJECTS)]
