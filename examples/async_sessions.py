"""Several sessions at once in one asyncio program, such as a robot that describes, plans and answers at the same time.

Start `edgespec serve` first, in another terminal. The server verifies the drafts of all sessions in the same forward
passes. A draft engine holds the state of one text, so each session loads its own.
"""

import asyncio
import sys

import edgespec

SERVER = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7433"
PROMPTS = ["def read_lines(path):\n    ", "class Robot:\n    ", "import json\n"]


async def write(prompt: str) -> str:
    params = edgespec.SamplingParams(max_new_tokens=32)
    async with edgespec.AsyncSession(SERVER, draft=edgespec.bundled_engine(), params=params) as session:
        await session.prompt(prompt)
        parts = [step.text async for step in session]
    return prompt + "".join(parts)


async def main() -> None:
    for text in await asyncio.gather(*(write(prompt) for prompt in PROMPTS)):
        print(text, end="\n\n")


asyncio.run(main())
