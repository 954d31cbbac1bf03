import io
import sys
from types import SimpleNamespace

import click
import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console

from benchmarks import rig
from benchmarks.__main__ import main
from benchmarks.report import Figure, Grid, Report, bars, lines

REPORT = Report(
    benchmark="tokenizers",
    setting="a sentence",
    figures=[
        Figure(name="fast", value=23.43, unit="", at_least=15),
        Figure(name="late", value=1.62, unit="s", at_most=1.5),
        Figure(name="plain", value=35_063.4, unit="calls/s"),
    ],
    tables=[Grid(title="Waits", columns=["", "load 0.5"], rows=[["fifo", 12.5], ["srtf", 1_200]])],
    plots=[
        bars("Speed", "calls/s", {"ours": 3.0, "theirs": 1.0}, ours=["ours"]),
        lines("Wait", "load", "ms", {"fifo": [(0.5, 12), (0.9, 96)]}, name="wait"),
    ],
    machine="2 cores",
)


@pytest.mark.parametrize(
    ("bounds", "goal"),
    [
        ({}, ""),
        ({"at_least": 2}, "≥ 2: met"),
        ({"at_least": 2.5}, "≥ 2.5: missed"),
        ({"at_most": 2}, "≤ 2: met"),
        ({"at_most": 1.5}, "≤ 1.5: missed"),
        ({"at_least": 1, "at_most": 3}, "≥ 1, ≤ 3: met"),
        ({"at_least": 12_000}, "≥ 12,000: missed"),
    ],
)
def test_goal_says_whether_it_is_met(bounds, goal):
    assert Figure(name="x", value=2.0, unit="", **bounds).goal == goal


def test_markdown():
    assert REPORT.markdown("folder") == (
        "## tokenizers\n"
        "\n"
        "a sentence. 2 cores.\n"
        "\n"
        "| | measured | goal |\n"
        "| --- | ---: | --- |\n"
        "| fast | 23.4 | ≥ 15: met |\n"
        "| late | 1.62 s | **≤ 1.5: missed** |\n"
        "| plain | 35,063 calls/s |  |\n"
        "\n"
        "Waits:\n"
        "\n"
        "|  | load 0.5 |\n"
        "| --- | ---: |\n"
        "| fifo | 12.5 |\n"
        "| srtf | 1,200 |\n"
        "\n"
        "![Speed](folder/tokenizers.png)\n"
        "\n"
        "![Wait](folder/tokenizers-wait.png)\n"
    )


def test_json_keeps_everything():
    assert msgspec.json.decode(msgspec.json.encode(REPORT), type=Report) == REPORT


def test_terminal_shows_figures_and_tables():
    console = Console(width=80, file=io.StringIO())
    console.print(*REPORT.shown())
    shown = "".join(console.file.getvalue().split())
    assert "≤1.5:missed" in shown
    assert "fifo│12.5" in shown


@pytest.fixture
def measured(monkeypatch):
    """`tokenizers` finds REPORT, `batching` fails."""

    async def found():
        return REPORT

    async def fails():
        raise RuntimeError("no luck")

    monkeypatch.setattr(rig, "imdb", lambda: None)
    for name, measure in (("tokenizers", found), ("batching", fails)):
        monkeypatch.setitem(sys.modules, f"benchmarks.{name}", SimpleNamespace(measure=measure))


def test_run_keeps_what_others_found_when_one_fails(measured, tmp_path):
    target = tmp_path / "new" / "found.json"
    result = CliRunner().invoke(main, ["batching", "tokenizers", "--json", str(target)])
    assert result.exit_code == 1
    assert "no luck" in result.output
    assert msgspec.json.decode(target.read_bytes(), type=list[Report]) == [REPORT]
    assert sorted(path.name for path in (tmp_path / "new" / "found").iterdir()) == [
        "tokenizers-wait.png",
        "tokenizers.png",
    ]


def test_page_is_made_of_the_json_alone(measured, tmp_path):
    target, page, again = (tmp_path / name for name in ("a.json", "a.md", "b/a.md"))
    arguments = ["tokenizers", "--json", str(target), "--page", str(page)]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    arguments = ["--from", str(target), "--page", str(again)]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert again.read_text() == page.read_text()
    for picture in (tmp_path / "a").iterdir():
        assert (tmp_path / "b" / "a" / picture.name).read_bytes() == picture.read_bytes()


def test_missing_data_is_told_before_anything_is_measured(monkeypatch, measured, tmp_path):
    def missing():
        raise click.ClickException("no such folder")

    monkeypatch.setattr(rig, "imdb", missing)
    target = tmp_path / "found.json"
    result = CliRunner().invoke(main, ["tokenizers", "--json", str(target)])
    assert result.exit_code == 1
    assert "no such folder" in result.output
    assert not target.exists()
