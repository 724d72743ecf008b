"""Results as Markdown: one function makes every table; each kind of results says which columns it has.

A text that differs from the target's and a run whose engines overran their pace are named instead of a speed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks.results import Content, Row, short

Text = Callable[[Row], str]


def table(
    rows: Sequence[Row], columns: Mapping[str, Text], spread: Text | None = None, value: Text = str
) -> str:
    """A Markdown table. columns: head -> a row's text there. spread: the head of the further column in which a row's
    `value` stands; rows whose columns are alike then share a line."""
    heads = list(dict.fromkeys(spread(row) for row in rows)) if spread else []
    lines: dict[object, tuple[list[str], dict[str, str]]] = {}
    for index, row in enumerate(rows):
        texts = [text(row) for text in columns.values()]
        _, own = lines.setdefault(tuple(texts) if spread else index, (texts, {}))
        if spread:
            own[spread(row)] = value(row)
    written = [[*columns, *heads], ["---", *["---:"] * (len(columns) + len(heads) - 1)]]
    written += [[*texts, *[own.get(head, "–") for head in heads]] for texts, own in lines.values()]
    return "\n".join(f"| {' | '.join(line)} |" for line in written)


WHERE: dict[str, Text] = {
    "RTT ms": lambda row: f"{row['rtt_ms']:g}",
    "T": lambda row: f"{row['temperature']:g}",
}


def plain_sections(content: Content) -> list[str]:
    """Any results as one table of all plain values."""
    rows = [
        {key: value for key, value in row.items() if not isinstance(value, (dict, list))}
        for row in content["rows"]
    ]
    keys = dict.fromkeys(key for row in rows for key in row)
    return [table(rows, {key: lambda row, key=key: short(row.get(key)) for key in keys})] if rows else []


def counts(row: Row) -> bool:
    """Whether the row's speed may be compared."""
    return not (row.get("unavailable") or row.get("text_differs") or row.get("void"))


def cell_of(row: Row) -> tuple[object, ...]:
    """Rows of one cell differ only in their mode or peer."""
    return tuple(row.get(key) for key in ("setting", "rtt_ms", "temperature", "wrong_draft", "sessions"))


# Peers


def peers_sections(content: Content) -> list[str]:
    rows, parts = content["rows"], []
    for temperature in sorted({row["temperature"] for row in rows}):
        own = [row for row in rows if row["temperature"] == temperature]
        runs = f"median of {own[0]['passes']} passes over {own[0]['prompts']} prompts (least to most)"
        parts += [f"**T = {temperature:g}**: tokens/s by round trip, {runs}.", peers_table(own)]
    reasons = {row["peer"]: row["unavailable"] for row in rows if row.get("unavailable")}
    parts += [f"- {peer} is unavailable: {reason}" for peer, reason in reasons.items()]
    return parts


def peers_summary(content: Content) -> list[str]:
    return ["T = 0:", peers_table([row for row in content["rows"] if row["temperature"] == 0])]


def peers_table(rows: Sequence[Row]) -> str:
    return table(
        rows, {"tokens/s": lambda row: row["peer"]}, lambda row: f"RTT {row['rtt_ms']:g} ms", _peer_speed
    )


def _peer_speed(row: Row) -> str:
    if row.get("unavailable"):
        return "unavailable"
    if row["text_differs"]:
        return f"**wrong** in {row['differing_texts']} texts"
    return f"{row['tokens_per_s']:.0f} ({row['tokens_per_s_low']:.0f}–{row['tokens_per_s_high']:.0f})"


# Modes and links

SUMMARY_MODES = ("sync", "preempt", "accept-all", "predicted", "colocated", "auto")
SETTING_NAMES = {
    "paper-jetson": "the paper's Jetson",
    "paper-rtx": "the paper's RTX",
    "go2": "the paper's Go2",
    "wrong-draft": "a draft that is never right",
    "wrong-exits": "exits that are never right",
    "hosted-draft": "the server hosts a draft too",
}


def latency_sections(content: Content) -> list[str]:
    rows = content["rows"]
    clouds = {cell_of(row): row for row in rows if row["mode"] == "cloud"}

    def cloud_speed(row: Row) -> str:
        cloud = clouds[cell_of(row)]
        return "void" if cloud["void"] else f"{cloud['tokens_per_s'] * cloud['scale']:.1f}"

    columns = {"setting": _setting, **WHERE, "draft / forward ms": _pace, "cloud, tokens/s": cloud_speed}
    others = [row for row in rows if row["mode"] != "cloud"]
    return [
        "How many times as fast as `cloud` (streamed cloud decoding):",
        table(others, columns, lambda row: f"{row['mode']} ×", _ratio),
        "`device` is the draft alone: its text is another, and no server is asked.",
    ]


def latency_summary(
    content: Content, modes: Sequence[str] = SUMMARY_MODES, only: Sequence[str] = ()
) -> list[str]:
    """How many times as fast as `cloud` these modes are at T = 0.8, in the settings `only`, or in all."""
    rows = [row for row in content["rows"] if row["temperature"] == 0.8 and row["mode"] in modes]
    rows = [row for row in rows if not only or row["setting"] in only]
    if len({row.get("sessions") for row in rows}) == 1:  # then the page says which
        rows = [{**row, "sessions": None} for row in rows]
    cells = list(dict.fromkeys(cell_of(row) for row in rows))
    heads = [mode for mode in modes if any(row["mode"] == mode for row in rows)]
    found = {(cell_of(row), row["mode"]): row for row in rows}
    ordered = [
        found.get((cell, mode))
        or {**next(row for row in rows if cell_of(row) == cell), "mode": mode, "none": True}
        for cell in cells
        for mode in heads
    ]
    return [
        table(
            ordered,
            {"target forward, draft token, round trip": _named},
            lambda row: f"`{row['mode']}`",
            _emphatic,
        )
    ]


USUAL_RTT_MS = 40.0


def gains(content: Content) -> list[str]:
    """What README shows, of cold sessions: the paper's settings, and an Orin with an A100 over a usual link and a rough
    one."""
    cold = [row for row in content["rows"] if row.get("sessions") != "warm"]
    rows = [row for row in cold if row["setting"] != "a100-orin" or row["rtt_ms"] == USUAL_RTT_MS]
    only = ("paper-jetson", "paper-rtx", "go2", "a100-orin", "rough-link")
    return latency_summary({**content, "rows": rows}, ("sync", "preempt", "auto"), only)


def _setting(row: Row) -> str:
    return row["setting"] + _shape(row)


def _shape(row: Row) -> str:
    text = (
        f", {row['wrong_draft']:.0%} of the draft's choices spoiled" if row["setting"] == "acceptance" else ""
    )
    text += ", cold sessions" if row.get("sessions") == "cold" else ""
    text += f", jitter ± {row['jitter_ms']:g} ms" if row["jitter_ms"] else ""
    return text + (f", {row['mbps']:g} Mbit/s" if row["mbps"] else "")


def _pace(row: Row) -> str:
    return "full speed" if row["forward_ms"] is None else f"{row['draft_ms']:.4g} / {row['forward_ms']:.4g}"


def _named(row: Row) -> str:
    pace = "full speed" if row["forward_ms"] is None else f"{row['forward_ms']:.3g}, {row['draft_ms']:.2g}"
    text, named = f"{pace}, {row['rtt_ms']:g} ms{_shape(row)}", SETTING_NAMES.get(row["setting"], "")
    return f"{named}: {text}" if named.startswith("the paper") else f"{text}, {named}" if named else text


def _ratio(row: Row) -> str:
    if row["text_differs"]:
        return "**wrong**"
    spread = f" ({row['speed_low']:.2f}–{row['speed_high']:.2f})" if "speed_low" in row else ""
    return f"{row['speed_vs_cloud']:.2f}{spread}" + (" (void)" if row["void"] else "")


def _emphatic(row: Row) -> str:
    if row.get("none"):
        return "–"
    return f"**{_ratio(row)}**" if row["mode"] == "auto" else _ratio(row)


# The robot

ROBOT: dict[str, Text] = {
    "mode": lambda row: f"`{row['mode']}`",
    "lost pieces": lambda row: f"{row['loss_percent']:g} %",
    "tokens/s, × cloud": lambda row: f"{row['speed_vs_cloud']:.2f}",
    "first token, ms": lambda row: f"{row['first_token_ms']:.0f}",
    "first command, ms": lambda row: f"{row['first_command_ms']:.0f}",
    "answer, ms": lambda row: f"{row['answer_ms']:.0f}",
    "goal, s": lambda row: f"{row['goal_ms'] / 1e3:.1f}",
    "commands a minute": lambda row: f"{row['commands_a_minute']:.0f}",
    "bytes a look": lambda row: f"{row['bytes_a_look']:.0f}",
    "goals reached": lambda row: f"{row['success']:.0%}",
}


def robot_sections(content: Content) -> list[str]:
    """Every mode over both links, then the outage in words."""
    driven = [row for row in content["rows"] if row["run"] == "rooms"]
    (outage,) = (row for row in content["rows"] if row["run"] == "outage")
    texts = "All texts were identical." if all(row["identical"] for row in driven) else "**Texts differed.**"
    alike = "the same as without it" if outage["identical"] else "**another one**"
    return [
        table(driven, ROBOT),
        f"{driven[0]['rooms']} rooms and {driven[0]['looks']} looks a mode. {texts}",
        f"An outage of {outage['length_ms'] / 1e3:g} s between two commands of an answer: the robot was held back "
        f"after {outage['held_back_after_ms']:.0f} ms ({outage['states']}). The target's next token came "
        f"{outage['correct_after_ms']:.0f} ms after the link was back. {outage['revised_tokens']} unverified tokens "
        f"were replaced, and the text was {alike}.",
    ]


# Kernels

KERNELS_LEGEND = (
    "How many times as fast as eager torch on the same number of threads, which is given its noise; and `exit_head`'s "
    "share of the speed of reading memory. `verify` at temperature 0.8 with top-k 50 and top-p 0.95, greedy at 0, "
    "open at 0.8 with nothing filtered; every row decided."
)
KERNEL_FIGURES = (
    ("exit_head", "eager_ms", "`exit_head`, times eager"),
    ("exit_head", "floor_ms", "`exit_head`, of memory's speed"),
    ("verify", "eager_ms", "`verify`, times eager"),
    ("verify_greedy", "eager_ms", "greedy"),
    ("verify_open", "eager_ms", "open"),
)
"""Kernel, what its time is compared with, and the line's name."""


def kernels_sections(content: Content) -> list[str]:
    parts, rows = [KERNELS_LEGEND], content["rows"]
    for threads, vocab in dict.fromkeys((row["threads"], row["vocab"]) for row in rows):
        own = [row for row in rows if (row["threads"], row["vocab"]) == (threads, vocab)]
        named = "One thread" if threads == 1 else f"{threads} threads"
        parts += [f"**{named}**, V = {vocab}, D = {max(row['dim'] for row in own)}:", kernels_table(own)]
    return parts


def kernels_table(rows: Sequence[Row]) -> str:
    figures = [
        {**row, "figure": figure, "against": against}
        for kernel, against, figure in KERNEL_FIGURES
        for dtype in dict.fromkeys(row["dtype"] for row in rows)
        for row in rows
        if row["kernel"] == kernel and row["dtype"] == dtype
    ]
    return table(
        figures,
        {"": lambda row: row["figure"], "dtype": lambda row: row["dtype"]},
        lambda row: f"R = {row['rows']}",
        _times,
    )


def _times(row: Row) -> str:
    times = row[row["against"]] / row["ms"]
    if row["against"] == "floor_ms":
        return f"{100 * times:.0f} %"
    return f"{times:.2f}" if times < 10 else f"{times:.0f}" if times < 100 else "> 100"
