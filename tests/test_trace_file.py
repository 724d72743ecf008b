"""The timeline's file: what chrome://tracing and Perfetto read."""

import json

from edgespec.edge.trace import Event, trace_object


def test_events_become_complete_events_in_microseconds_a_thread_a_lane() -> None:
    events = [
        Event("edge", "draft", 5.0, 5.002, {"nodes": 1}),
        Event("cloud", "forward", 5.001, 5.1, {"rows": 2, "tokens": 1}),
    ]
    found = json.loads(json.dumps(trace_object(events, {"sent": 2})))
    complete = [event for event in found["traceEvents"] if event["ph"] == "X"]
    assert [round(event["ts"]) for event in complete] == [0, 1000]
    assert [round(event["dur"]) for event in complete] == [2000, 99000]
    assert complete[0]["tid"] != complete[1]["tid"] and complete[1]["args"] == {"rows": 2, "tokens": 1}
    lanes = {event["tid"]: event["args"]["name"] for event in found["traceEvents"] if event["ph"] == "M"}
    assert lanes[complete[0]["tid"]] == "edge" and found["otherData"] == {"sent": 2}


def test_an_empty_timeline_is_a_file_all_the_same() -> None:
    assert len(trace_object([], {})["traceEvents"]) == 4
