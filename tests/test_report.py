"""Benchmark results: their schema, and the tables that are made of them (benchmarks/ of the source tree)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import edgespec
from edgespec.core.errors import EdgespecError

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "benchmarks" / "report.py").exists():
    pytest.skip("the benchmarks are not here", allow_module_level=True)
sys.path.append(str(ROOT))

import benchmarks.__main__ as every  # noqa: E402
from benchmarks import house, report, tables  # noqa: E402
from benchmarks.interval import speed_interval  # noqa: E402
from benchmarks.measured_code import code_hash  # noqa: E402
from benchmarks.results import FORMAT_VERSION, Results, load, save  # noqa: E402

pytestmark = pytest.mark.needs_torch

LATENCY = {
    "setting": "jetson", "temperature": 0.8, "rtt_ms": 96.0, "jitter_ms": 0.0, "mbps": None, "draft_ms": 75.25,
    "forward_ms": 522.0, "scale": 0.2, "wrong_draft": 0.0, "mode": "cloud", "tokens_per_s": 20.0,
    "speed_vs_cloud": 1.0, "void": False, "text_differs": False, "bytes_per_token": 155.0, "ttft_ms_median": 12.0,
    "token_ms_median": 5.0, "token_ms_p90": 6.0, "token_ms_p99": 7.0,
}  # fmt: skip
PEER = {
    "rtt_ms": 0.0, "temperature": 0.0, "prompts": 2, "passes": 3, "peer": "edgespec auto", "tokens_per_s": 200.0,
    "tokens_per_s_low": 199.0, "tokens_per_s_high": 201.0, "text_differs": False, "differing_texts": 0,
    "ttft_ms_median": 12.0, "token_ms_median": 5.0, "token_ms_p90": 6.0, "token_ms_p99": 7.0,
}  # fmt: skip


def written(
    folder: Path, kind: str, rows: list[dict[str, Any]], marker: str = "results", **changes: Any
) -> str:
    """A page whose marker is filled from one file of results with these rows."""
    save({**Results(kind, "All emulated.").content, "rows": rows, **changes}, folder / f"{kind}.json")
    page = folder / "page.md"
    page.write_text(f"before\n<!-- {marker} -->\nold\n<!-- /{marker} -->\nafter\n", encoding="utf-8")
    report.main(["--results", str(folder), str(page)])
    return page.read_text(encoding="utf-8")


def test_rows_are_saved_as_they_come_and_read_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "wire.json"
    results = Results("wire", "Nothing is paced.", file)
    for number in (1, 2):
        results.add({"what": "a round trip", "us": number / 3})
        assert load(file) == results.content
    assert results.content["command"].startswith("python -m benchmarks.wire")
    assert {"date", "hardware", "versions"} <= set(results.content)
    assert "us 0.3333" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[]", '{"format_version": 99}'])
def test_files_of_another_version_are_left_out_with_a_sentence(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wire.json").write_text(text, encoding="utf-8")
    with pytest.raises(EdgespecError, match="run the benchmark again"):
        load(tmp_path / "wire.json")
    (tmp_path / "page.md").write_text("<!-- wire -->\n<!-- /wire -->\n", encoding="utf-8")
    assert report.main(["--results", str(tmp_path), str(tmp_path / "page.md")]) == 1
    assert "Left out: wire.json" in (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "run the benchmark again" in capsys.readouterr().err


def test_a_damaged_row_is_left_out_with_a_sentence(tmp_path: Path) -> None:
    assert "latency.json is damaged" in written(tmp_path, "latency", [{"setting": "jetson"}])


def test_only_what_is_between_the_markers_changes(tmp_path: Path) -> None:
    text = written(tmp_path, "wire", [{"library": "edgespec", "p50_us": 20.125}])
    assert text.startswith("before\n<!-- results -->\n## The wire")
    assert text.endswith("<!-- /results -->\nafter\n")
    assert "| edgespec | 20.12 |" in text and "old" not in text


@pytest.mark.parametrize("marker", ["results", "wire"])
def test_a_page_names_command_date_hardware_and_file(tmp_path: Path, marker: str) -> None:
    text = written(
        tmp_path, "wire", [{"library": "edgespec"}], marker, command="python -m x", date="2026-01-02"
    )
    assert "`python -m x`, 2026-01-02," in text and " cores of " in text
    assert "[wire.json](wire.json)" in text
    assert ("All emulated." in text) == (marker == "results")


def test_latency_names_void_and_wrong_rows(tmp_path: Path) -> None:
    rows = [
        LATENCY,
        {**LATENCY, "mode": "auto", "speed_vs_cloud": 2.057},
        {**LATENCY, "mode": "sync", "speed_vs_cloud": 1.57, "void": True},
        {**LATENCY, "mode": "preempt", "text_differs": True},
    ]
    text = written(tmp_path, "latency", rows)
    assert "| jetson | 96 | 0.8 | 75.25 / 522 | 4.0 | 2.06 | 1.57 (void) | **wrong** |" in text


def test_the_summary_has_a_line_a_setting_and_auto_in_bold() -> None:
    modes = [
        {**LATENCY, "mode": mode, "speed_vs_cloud": speed} for mode, speed in (("auto", 1.6), ("sync", 0.8))
    ]
    other = {**modes[0], "rtt_ms": 20.0}
    (text,) = tables.latency_summary({"rows": [*modes, other]})
    assert text.splitlines() == [
        "| target forward, draft token, round trip | `sync` | `auto` |",
        "| --- | ---: | ---: |",
        "| 522, 75, 96 ms | 0.80 | **1.60** |",
        "| 522, 75, 20 ms | – | **1.60** |",
    ]


def test_an_interval_is_of_prompts_drawn_with_their_own_cloud_runs() -> None:
    def runs(mode: str, seconds: Sequence[float]) -> list[Any]:
        return [
            SimpleNamespace(mode=mode, prompt=number, statistics=SimpleNamespace(committed=96, seconds=each))
            for number, each in enumerate(seconds)
        ]

    cloud = runs("cloud", [4.0, 8.0, 2.0, 6.0])
    assert speed_interval(runs("auto", [2.0, 4.0, 1.0, 3.0]), cloud) == {"speed_low": 2.0, "speed_high": 2.0}
    uneven = speed_interval(runs("auto", [1.0, 8.0, 1.0, 2.0]), cloud)
    assert 1.0 <= uneven["speed_low"] < 20 / 12 < uneven["speed_high"] <= 4.0
    assert speed_interval(cloud[:2], cloud[:2]) == {}


def test_peers_stand_in_columns_of_round_trips() -> None:
    rows = [PEER, {**PEER, "rtt_ms": 40.0, "tokens_per_s": 150.0}]
    assert tables.peers_table(rows).splitlines()[::2] == [
        "| tokens/s | RTT 0 ms | RTT 40 ms |",
        "| edgespec auto | 200 (199–201) | 150 (199–201) |",
    ]


def test_a_wrong_text_is_no_speed_and_an_absent_peer_has_its_reason(tmp_path: Path) -> None:
    gone = {"rtt_ms": 0.0, "temperature": 0.0, "peer": "vllm plain", "unavailable": "cmake is not there"}
    text = written(tmp_path, "peers", [{**PEER, "text_differs": True, "differing_texts": 2}, gone])
    assert "| edgespec auto | **wrong** in 2 texts |" in text and "200" not in text
    assert "| vllm plain | unavailable |" in text
    assert "- vllm plain is unavailable: cmake is not there" in text


def test_pictures_lie_beside_the_results(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    text = written(tmp_path, "peers", [{**PEER, "rtt_ms": rtt_ms} for rtt_ms in (0.0, 40.0)])
    assert "](peers.png)" in text and (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")


def test_kernels_stand_in_columns_of_rows() -> None:
    row = {"kernel": "exit_head", "dtype": "float32", "rows": 1, "ms": 1.0, "eager_ms": 2.5, "floor_ms": 0.69}
    other = {**row, "kernel": "verify", "rows": 32, "eager_ms": 217.4}
    assert tables.kernels_table([row, other]).splitlines()[2:] == [
        "| `exit_head`, times eager | float32 | 2.50 | – |",
        "| `exit_head`, of memory's speed | float32 | 69 % | – |",
        "| `verify`, times eager | float32 | – | > 100 |",
    ]


def test_speed_is_the_median_of_the_passes_and_texts_are_compared_with_the_first_peers() -> None:
    from benchmarks.peers.__main__ import _rows
    from benchmarks.peers.clients import Peer, Played

    def refuse(*_: Any) -> Played:
        raise AssertionError("nothing is played here")

    peers = [Peer("plain", "one", refuse), Peer("ours", "two", refuse, own_noise=False)]
    plain = [[Played((1, 2, 3, 4), ((0.5, 2), (seconds, 2)))] for seconds in (1.0, 2.0, 4.0)]
    runs = {"plain": plain, "ours": [[Played((1, 2, 3, 5), ((0.5, 2), (1.0, 2)))]] * 3}
    one, two = _rows(peers, runs, {}, greedy=True)
    assert [one[f"tokens_per_s{part}"] for part in ("", "_low", "_high")] == [2.0, 1.0, 4.0]
    assert one["token_ms_median"] == 750.0
    assert not one["text_differs"] and two["differing_texts"] == 3
    one, two = _rows(peers, runs, {}, greedy=False)
    assert one["text_differs"] is None and not two["text_differs"]


def test_committed_results_fill_every_marker_of_the_documents(tmp_path: Path) -> None:
    """Every file of docs/results is of the schema, every kind that a page names is there, and what is older than the
    code that it measures says so: else `python -m benchmarks.report` writes the pages again."""
    for file in report.FOLDER.glob("*.json"):
        assert load(file)["kind"] == file.stem.removesuffix("_smollm2")
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        copy = tmp_path / page.name
        copy.write_bytes(page.read_bytes())
        assert report.write_page(copy, report.FOLDER, draw=False) == []
        assert copy.read_text().count(report.OLDER) == page.read_text().count(report.OLDER), page.name


def test_results_of_other_code_are_named_as_older(tmp_path: Path) -> None:
    assert report.OLDER not in written(tmp_path, "wire", [{"library": "edgespec"}])
    assert report.OLDER in written(tmp_path, "wire", [{"library": "edgespec"}], code="0" * 16)


def test_the_house_is_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    broken = house.Measure("lines", 2, 1, "there")
    monkeypatch.setattr(house, "path_measure", lambda: broken)
    monkeypatch.setattr(house, "PRODUCT", ("edgespec/core", "edgespec/edge"))
    monkeypatch.setattr(sys, "argv", ["house", "--check"])
    assert house.main() == 1
    assert "> lines" in capsys.readouterr().out
    assert all(row.now > 0 for row in [*house.lines_measures(), *house.python_measures()] if row.limit)


STARTED = """
import multiprocessing
import edgespec

def where():
    print(edgespec.__file__)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=where)
    process.start()
    process.join()
    raise SystemExit(process.exitcode)
"""


def test_processes_of_a_benchmark_take_the_installed_package_too(tmp_path: Path) -> None:
    tree, installed = tmp_path / "tree", tmp_path / "installed"
    for folder in (tree / "benchmarks", tree / "edgespec", installed):
        folder.mkdir(parents=True)
    (tree / "edgespec" / "__init__.py").write_text("")
    shutil.copy(ROOT / "benchmarks" / "__init__.py", tree / "benchmarks")
    (tree / "benchmarks" / "started.py").write_text(STARTED)
    (installed / "edgespec").symlink_to(Path(edgespec.__file__).parent)
    command = [sys.executable, "-m", "benchmarks.started"]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(installed / "edgespec" / "__init__.py")


def test_the_benchmarks_are_listed() -> None:
    command = [sys.executable, "-m", "benchmarks"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(name in printed for name in ("latency", "overhead", "wire", "peers", "link", "house", "load"))


def test_all_goes_on_with_what_is_missing_or_older(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measured: list[str] = []

    def run(command: Sequence[str], **_: Any) -> SimpleNamespace:
        name = command[2].removeprefix("benchmarks.")
        measured.append(name)
        file = Path(command[4])
        save({"kind": name, "format_version": FORMAT_VERSION, "code": code_hash(name), "rows": []}, file)
        return SimpleNamespace(returncode=int(name == "link"))

    monkeypatch.setattr(every, "MEASURING", ("wire", "link", "memory"))
    monkeypatch.setattr(every, "ROOT", tmp_path)
    monkeypatch.setattr(every, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(subprocess, "run", run)
    (tmp_path / "results").mkdir()
    older = {"kind": "memory", "format_version": FORMAT_VERSION, "code": "of before", "rows": []}
    save(older, tmp_path / "results" / "memory.json")
    monkeypatch.setattr(sys, "argv", ["benchmarks", "all"])
    assert every.main() == 1 and measured == [
        "wire",
        "link",
        "memory",
    ]  # link fails: its results are not taken
    measured.clear()
    assert every.main() == 1 and measured == ["link"]


def test_all_leaves_out_what_needs_a_package_that_is_not_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(every, "MEASURING", ("fleet",))
    monkeypatch.setattr(every, "NEEDS", {"fleet": "no_such_package"})
    monkeypatch.setattr(sys, "argv", ["benchmarks", "all", "--quick"])
    assert every.main() == 0
    printed = capsys.readouterr().out
    assert "fleet: left out, it needs no_such_package: pip install '.[no_such_package]'" in printed
