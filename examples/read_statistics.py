"""Where the time goes: a session's statistics while it runs, and its timeline as a file for ui.perfetto.dev.

Start `edgespec serve` first, in another terminal.
"""

import json
import sys

import edgespec

server = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7433"
params = edgespec.SamplingParams(max_new_tokens=64)
timeline: list[edgespec.Event] = []

with edgespec.Session(server, draft=edgespec.bundled_engine(), params=params, trace=timeline) as session:
    session.prompt("def read_lines(path):\n    ")
    for step in session:
        print(f"{step.statistics.committed:4} tokens after {step.statistics.seconds:6.3f} s", end="\r")

statistics = session.statistics
tokens = statistics.committed
print(
    f"\nspeed              {statistics.tokens_per_s:.1f} tokens/s, the first after {statistics.ttft_ms:.0f} ms"
)
print(f"round trip         {statistics.rtt_ms:.1f} ms")
print(f"target forwards    {statistics.target_forwards / tokens:.2f} per token")
print(
    f"drafted tokens     {statistics.drafted}, of which {statistics.sent} were sent, {statistics.accepted} accepted"
)
print(f"hints              {statistics.hints_sent}, of which {statistics.hints_hit} were right")
print(f"time               draft {statistics.draft_ms:.0f} ms, target {statistics.forward_ms:.0f} ms")
print(f"traffic            {(statistics.bytes_up + statistics.bytes_down) / tokens:.0f} bytes per token")

with open("timeline.json", "w", encoding="utf-8") as file:
    json.dump(edgespec.trace_object(timeline, statistics.to_json()), file)
print("timeline           timeline.json, open it in ui.perfetto.dev")
