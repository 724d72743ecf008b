"""Prompts of everyday chat, made by a rule: every request about every subject, in an order that a hash decides.

    python -m benchmarks.chat_prompts build/chat.jsonl     # those to train on, one `messages` a line

`held_out` are about subjects that no prompt to train on names, so nobody picks what a pair is measured on.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from zlib import crc32

REQUESTS = (
    "What is {}?", "Explain {} to a child of ten.", "Explain in three sentences how {} works or came about.",
    "List five facts about {}.", "Write a short poem about {}.", "Write a short story in which {} plays a part.",
    "What are the advantages and disadvantages of {}?", "Give me three questions and answers for a quiz about {}.",
    "Write an email to a friend that tells of {}.", "Write a paragraph for an encyclopedia on {}.",
    "What should a beginner know about {}?", "Give me a plan of five steps to learn more about {}.",
    "Summarise the history of {}.", "Write a dialogue between two people about {}.",
    "Name ten words that have to do with {} and explain each.", "Why do people care about {}?",
    "Write a Python function that prints a sentence about {}, and explain it.",
    "Write a title and an introduction for an article about {}.", "What is a common mistake about {}?",
    "Compare {} with something similar.", "Write JSON with the keys name, kind, year and note about {}.",
    "Give me tips about {} as a list.", "Describe {} as a robot with a camera would see it.",
    "Translate a simple sentence about {} into Spanish.",
)  # fmt: skip
SUBJECTS = (
    "bread", "running", "the moon", "bicycles", "chess", "the printing press", "volcanoes", "tea", "solar panels",
    "the Roman Empire", "bees", "rain", "photosynthesis", "trains", "the violin", "vaccines", "coffee", "gravity",
    "the Amazon river", "robots", "dreams", "money", "the French Revolution", "whales", "gardening", "the internet",
    "salt", "earthquakes", "paper", "football", "the heart", "batteries", "magnets", "Shakespeare", "bridges", "wool",
    "the stock market", "sleep", "glass", "penguins", "cheese", "the compass", "electric cars", "mountains", "jazz",
    "the telephone", "forests", "clocks", "DNA", "democracy", "swimming", "rice", "black holes", "cats", "the piano",
    "recycling", "maps", "ancient Egypt", "steel", "elephants", "weather forecasts", "poetry", "yoga", "satellites",
    "the Olympic Games", "honey", "bicycle helmets", "deserts", "mirrors", "the alphabet", "horses", "wind power",
    "chocolate", "the microscope", "teamwork", "airports", "dinosaurs", "the violet", "cooking pasta", "lighthouses",
    "the human brain", "sheep", "oceans", "the zero", "tomatoes", "libraries", "spiders", "camping", "lasers",
    "the Great Wall of China", "wheels", "apples", "a good night's rest", "computers", "the sun", "friendship",
    "kites", "traffic lights", "concrete", "the guitar", "migration of birds", "ice", "museums", "plastic", "owls",
    "public speaking", "the thermometer", "rivers", "carpets", "job interviews", "Mars", "potatoes", "sailing ships",
    "origami", "the calendar", "mushrooms", "fire", "a healthy breakfast", "cameras", "turtles",
)  # fmt: skip
HELD_OUT_SUBJECTS = (
    "bananas", "the steam engine", "snow", "wolves", "dancing", "the Silk Road", "windows", "antibiotics", "tents",
    "the trumpet", "coral reefs", "pencils",
)  # fmt: skip


def training() -> list[str]:
    """The prompts to train on: 2,880, in one fixed order without pattern."""
    return _mixed(SUBJECTS)


def held_out(count: int) -> list[str]:
    """`count` prompts about other subjects; no subject and no request twice until all had their turn."""
    pairs = zip(
        itertools.cycle(HELD_OUT_SUBJECTS), itertools.cycle(REQUESTS[::2] + REQUESTS[1::2]), strict=False
    )
    return [request.format(subject) for subject, request in itertools.islice(pairs, count)]


def _mixed(subjects: tuple[str, ...]) -> list[str]:
    made = (request.format(subject) for request in REQUESTS for subject in subjects)
    return sorted(made, key=lambda prompt: crc32(prompt.encode()))


def save(prompts: list[str], file: Path) -> None:
    """One conversation of one message a line, as `edgespec train --data` reads it."""
    rows = ({"messages": [{"role": "user", "content": prompt}]} for prompt in prompts)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    save(training(), Path(sys.argv[1]))
