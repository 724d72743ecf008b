"""Benchmark results: their schema, and the tables that are made of them (benchmarks/ of the source tree)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from edgespec.core.errors import EdgespecError

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "benchmarks" / "report.py").exists():
    pytest.skip("the benchmarks are not here", allow_module_level=True)
sys.path.append(str(ROOT))

from benchmarks.kernels_tables import kernels_table  # noqa: E402
from benchmarks.latency_tables import latency_sections, latency_summary, target_rows  # noqa: E402
from benchmarks.peers.clients import Played  # noqa: E402
from benchmarks.peers.figures import cell_figures  # noqa: E402
from benchmarks.peers.roster import Peer  # noqa: E402
from benchmarks.report import write_page  # noqa: E402
from benchmarks.results import load, results, save  # noqa: E402
from benchmarks.tables import peers_table, targets_rows  # noqa: E402

PAGE = "before\n<!-- results -->\nold\n<!-- /results -->\nafter\n"


def figures(speed: float, differs: bool | None = False) -> dict[str, Any]:
    return {
        "tokens": 100,
        "tokens_per_s": speed,
        "tokens_per_s_low": speed - 1,
        "tokens_per_s_high": speed + 1,
        "ttft_ms_median": 10.0,
        "token_ms_median": 5.0,
        "token_ms_p90": 6.0,
        "token_ms_p99": 7.0,
        "text_differs": differs,
        "differing_texts": 2 if differs else 0,
    }


def peers_cell(rtt_ms: float = 0.0, **peers: Any) -> dict[str, Any]:
    named = {name.replace("_", " ", 1): value for name, value in peers.items()}
    return {"rtt_ms": rtt_ms, "temperature": 0.0, "prompts": 2, "passes": 3, "peers": named}


def latency_cell() -> dict[str, Any]:
    mode = {**figures(20.0), "speed_vs_cloud": 1.0, "void": False, "bytes_per_token": 100.0}
    modes = {
        "cloud": mode,
        "auto": {**mode, "speed_vs_cloud": 2.06},
        "sync": {**mode, "speed_vs_cloud": 1.57, "void": True},
        "preempt": {**mode, "speed_vs_cloud": 9.99, "text_differs": True},
    }
    shape = {"rtt_ms": 96.0, "jitter_ms": 0.0, "mbps": None, "scale": 0.2}
    return {
        "setting": "jetson",
        "temperature": 0.8,
        "draft_ms": 75.25,
        "forward_ms": 522.0,
        **shape,
        "modes": modes,
    }


def page_of(tmp_path: Path, kind: str, cells: list[dict[str, Any]]) -> str:
    save(results(kind, cells, "All emulated."), tmp_path / f"{kind}.json")
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    assert write_page(page, tmp_path) == 0
    return page.read_text(encoding="utf-8")


def test_results_come_back_as_they_were_saved(tmp_path: Path) -> None:
    content = results("wire", [{"library": "edgespec", "p50_us": 20.0}], "Loopback.")
    save(content, tmp_path / "wire.json")
    assert load(tmp_path / "wire.json", "wire") == content
    assert {"hardware", "versions", "notes", "kind", "format_version"} <= content.keys()
    assert "edgespec" in content["versions"] and content["hardware"]["cores"] >= 1


@pytest.mark.parametrize(
    ("change", "complaint"),
    [({"format_version": 99}, "another version"), ({"kind": "soak"}, "holds results of 'soak'")],
)
def test_results_of_another_version_or_kind_are_refused(
    tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    save({**results("wire", [], ""), **change}, tmp_path / "wire.json")
    with pytest.raises(EdgespecError, match=complaint):
        load(tmp_path / "wire.json", "wire")


def test_a_file_of_another_version_leaves_a_sentence_on_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save({**results("wire", [], ""), "format_version": 99}, tmp_path / "wire.json")
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    assert write_page(page, tmp_path) == 1
    assert "Left out: wire.json is of another version" in page.read_text(encoding="utf-8")
    assert "run the benchmark again" in capsys.readouterr().err


def test_a_damaged_cell_is_left_out_with_a_sentence(tmp_path: Path) -> None:
    save(results("latency", [{"setting": "jetson"}], ""), tmp_path / "latency.json")
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    assert write_page(page, tmp_path) == 1
    assert "latency.json is damaged" in page.read_text(encoding="utf-8")


def test_only_what_is_between_the_markers_changes(tmp_path: Path) -> None:
    text = page_of(tmp_path, "wire", [{"library": "edgespec", "p50_us": 20.125}])
    assert text.startswith("before\n<!-- results -->\n## The wire") and text.endswith(
        "<!-- /results -->\nafter\n"
    )
    assert "| edgespec | 20.12 |" in text and "old" not in text


def test_what_a_benchmark_printed_stands_as_it_is(tmp_path: Path) -> None:
    text = page_of(tmp_path, "soak", [{"command": "python soak.py", "output": "texts 44 | none differed\n"}])
    assert "```\ntexts 44 | none differed\n```" in text


def test_a_page_names_hardware_versions_and_what_was_emulated(tmp_path: Path) -> None:
    content = results("wire", [{"library": "edgespec"}], "All emulated.")
    text = page_of(tmp_path, "wire", content["cells"])
    assert f"edgespec {content['versions']['edgespec']}" in text and "All emulated." in text
    assert f"{content['hardware']['cores']} cores of {content['hardware']['processor']}" in text


def test_latency_marks_void_and_wrong_cells(tmp_path: Path) -> None:
    text = page_of(tmp_path, "latency", [latency_cell()])
    row = next(line for line in text.splitlines() if line.startswith("| jetson"))
    assert row == "| jetson | 96 | 0.8 | 75.25 / 522 | 4.0 | 2.06 | 1.57 (void) | **wrong** |"


def test_a_wrong_text_is_no_speed_and_an_absent_peer_has_its_reason(tmp_path: Path) -> None:
    gone = {"unavailable": "cmake is not there"}
    text = page_of(
        tmp_path, "peers", [peers_cell(edgespec_auto=figures(900.0, differs=True), vllm_plain=gone)]
    )
    assert "| edgespec auto | **wrong** in 2 texts |" in text and "900" not in text
    assert "| vllm plain | unavailable |" in text
    assert "- vllm plain is unavailable: cmake is not there" in text


def test_peers_stand_in_columns_of_round_trips() -> None:
    cells = [peers_cell(0.0, edgespec_auto=figures(200.0)), peers_cell(40.0, edgespec_auto=figures(150.0))]
    assert peers_table(cells).splitlines() == [
        "| tokens/s | RTT 0 ms | RTT 40 ms |",
        "| --- | ---: | ---: |",
        "| edgespec auto | 200 (199–201) | 150 (149–151) |",
    ]


def test_targets_are_met_or_missed_and_never_by_a_wrong_text() -> None:
    cell = peers_cell(
        edgespec_auto=figures(200.0),
        transformers_plain=figures(90.0),
        transformers_assistant_model=figures(150.0),
    )
    assert [row[-2:] for row in targets_rows([cell])] == [["1.33", "missed"], ["2.22", "met"]]
    cell["peers"]["edgespec auto"] = figures(900.0, differs=True)
    assert targets_rows([cell]) == []


def test_pictures_lie_beside_the_results(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    text = page_of(tmp_path, "peers", [peers_cell(rtt, edgespec_auto=figures(200.0)) for rtt in (0.0, 40.0)])
    assert "](peers.png)" in text and (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")


def test_speed_is_the_median_of_the_passes_and_texts_are_compared_with_the_first_peers() -> None:
    def refuse(*_: Any) -> Played:
        raise AssertionError("nothing is played here")

    peers = [Peer("plain", "one", refuse), Peer("ours", "two", refuse, own_noise=False)]
    plain = [[Played((1, 2, 3, 4), ((0.5, 2), (seconds, 2)))] for seconds in (1.0, 2.0, 4.0)]
    ours = [[Played((1, 2, 3, 5), ((0.5, 2), (1.0, 2)))]] * 3
    runs = {"plain": plain, "ours": ours}
    greedy = cell_figures(peers, runs, greedy=True)
    assert greedy["plain"]["tokens_per_s"] == 2.0
    assert (greedy["plain"]["tokens_per_s_low"], greedy["plain"]["tokens_per_s_high"]) == (1.0, 4.0)
    assert greedy["plain"]["token_ms_median"] == 750.0
    assert not greedy["plain"]["text_differs"] and greedy["ours"]["differing_texts"] == 3
    sampled = cell_figures(peers, runs, greedy=False)
    assert sampled["plain"]["text_differs"] is None and not sampled["ours"]["text_differs"]


def orin_cell(**speeds: float) -> dict[str, Any]:
    modes = {
        name.replace("_", "-"): {
            **figures(10.0),
            "speed_vs_cloud": speed,
            "void": False,
            "bytes_per_token": 155.0,
        }
        for name, speed in {"cloud": 1.0, **speeds}.items()
    }
    return {
        **latency_cell(),
        "setting": "a100-orin",
        "rtt_ms": 40.0,
        "forward_ms": 28.0,
        "draft_ms": 6.0,
        "modes": modes,
    }


def test_latency_is_held_against_its_targets() -> None:
    rows = target_rows([orin_cell(sync=0.8, preempt=1.1, accept_all=1.2, auto=1.6)])
    assert [(row[2], row[4], row[5]) for row in rows] == [
        ("auto / cloud", "1.60", "met"),
        ("auto / sync", "2.00", "met"),
        ("auto / preempt", "1.45", "missed"),
        ("bytes a token, auto", "155", "missed"),
        ("auto / accept-all, the fastest of the published", "1.33", "met"),
    ]


def test_the_draft_alone_is_no_rival_and_its_column_says_why() -> None:
    cell = orin_cell(device=4.6, auto=1.6)
    cell["modes"]["device"]["text_differs"] = None
    assert not any("device" in row[2] for row in target_rows([cell]))
    assert "its text is another" in "\n".join(latency_sections({"cells": [cell]}))
    assert "device" not in latency_summary({"cells": [cell]})


def test_a_void_cell_is_held_against_nothing() -> None:
    cell = orin_cell(sync=0.8, auto=1.6)
    cell["modes"]["sync"]["void"] = True
    assert not any("sync" in row[2] for row in target_rows([cell]))


def test_the_summary_has_a_row_a_setting_and_auto_in_bold() -> None:
    text = latency_summary({"cells": [orin_cell(sync=0.8, auto=1.6)]})
    assert text.splitlines()[0] == "| target, draft, round trip | `sync` | `auto` |"
    assert text.splitlines()[2] == "| 28, 6, 40 ms | 0.80 | **1.60** |"


def kernel_cell(kernel: str, dtype: str, rows: int, **ms: float) -> dict[str, Any]:
    return {
        "kernel": kernel,
        "dtype": dtype,
        "rows": rows,
        "ms": 1.0,
        "eager_ms": 2.5,
        "floor_ms": 0.69,
        **ms,
    }


def test_kernels_stand_in_columns_of_rows_and_what_is_short_of_its_aim_in_bold() -> None:
    cells = [
        kernel_cell("exit_head", "float32", 1),
        kernel_cell("exit_head", "float32", 32),
        kernel_cell("verify", "float32", 1, eager_ms=217.4),
        kernel_cell("verify_open", "float32", 32),
    ]
    assert kernels_table(cells).splitlines()[2:] == [
        "| `exit_head`, times eager | float32 | 2.50 | 2.50 |",
        "| `exit_head`, of memory's speed | float32 | **69 %** | 69 % |",
        "| `verify`, times eager | float32 | > 100 | – |",
        "| greedy | float32 | – | – |",
        "| open | float32 | – | **2.50** |",
    ]
