"""Hello: generate text with the bundled models. Start `edgespec serve` first, in another terminal."""

import sys

import edgespec

server = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7433"

with edgespec.Session(server, draft=edgespec.bundled_engine()) as session:
    session.prompt("def read_lines(path):\n    ")
    for step in session:
        print(step.text, end="", flush=True)
