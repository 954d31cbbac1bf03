import pytest

pytest.importorskip("matplotlib")

from PIL import Image

from benchmarks import plots
from benchmarks.report import Plot, Series, bars, lines

LOADS = (0.3, 0.5, 0.9)
MANY = {f"a rather long name of a bar, {place}": 10.0**place for place in range(20)}
PLOTS = {
    "bars": bars("Speed", "calls/s", {"ours": 35_000.0, "theirs": 900.0}, ours=["ours"]),
    "many bars": bars("Speed", "calls/s", MANY, y_scale="log"),
    "nothing but zeros": bars("Lost", "items", {"ours": 0.0, "theirs": 0.0}),
    "grouped bars": Plot(
        title="Wait", kind="bars", y="ms", categories=["short", "long"],
        series=[Series(name="srtf", y=[3.0, 300.0]), Series(name="fifo", y=[200.0, 220.0])],
        ours=["srtf"],
    ),
    "lines that meet": lines(
        "Wait", "load", "ms", {name: [(load, 1 / (1 - load)) for load in LOADS] for name in "abc"},
        ours=["a"], y_scale="log",
    ),
    "one line": lines("Joined", "packs", "items/s", {"": [(1, 6e3), (256, 5e4)]}, x_scale="log"),
}  # fmt: skip


def drawn(plot, tmp_path):
    path = tmp_path / "plot.png"
    plots.draw(plot, path)
    return path


@pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS)
def test_plot_is_a_small_picture(plot, tmp_path):
    path = drawn(plot, tmp_path)
    assert path.stat().st_size < 60_000
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width == plots.WIDTH * plots.DPI


@pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS)
def test_nothing_is_cut_off(plot, tmp_path):
    with Image.open(drawn(plot, tmp_path)) as image:
        pixels = image.convert("L")
        right = pixels.crop((pixels.width - 2, 0, pixels.width, pixels.height))
        left = pixels.crop((0, 0, 2, pixels.height))
        assert all(side.getextrema() == (255, 255) for side in (left, right))


def colours(plot, tmp_path):
    with Image.open(drawn(plot, tmp_path)) as image:
        found = image.convert("RGB")
        return {f"#{r:02X}{g:02X}{b:02X}" for _, (r, g, b) in found.getcolors(found.width * 1000)}


def test_only_ours_have_colour(tmp_path):
    assert plots.OURS[0] in colours(PLOTS["bars"], tmp_path)
    assert not set(plots.OURS) & colours(PLOTS["many bars"], tmp_path)
