"""A chat in the terminal: one session for the whole conversation, so that no earlier turn is computed again.

Start `edgespec serve` first, in another terminal. With a model that has a chat template, `Conversation` applies it; the
bundled models have none and continue what you type. An empty line ends the chat.
"""

import sys

import edgespec

server = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7433"
params = edgespec.SamplingParams(temperature=0.7, max_new_tokens=40)

with edgespec.Session(server, draft=edgespec.bundled_engine(), params=params) as session:
    conversation = edgespec.Conversation(session.tokenizer)
    answer: list[int] = []
    for turn, line in enumerate(iter(lambda: input("you: "), "")):
        tokens = conversation.next_turn(line, answer)
        if turn == 0:
            session.prompt(tokens)
        else:
            session.append(tokens)
        for step in session:
            print(step.text, end="", flush=True)
        print(f"\n[{session.finish_reason}]")
        answer = session.tokens
