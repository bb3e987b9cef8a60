"""Plot of what single settings do: their importance, and what "within noise" means. Begin at `importance_chart`."""

from ferray.report.page.chart import Chart, TextTable, field, make_spec, named, six_digits
from ferray.report.results.importance import Importance
from ferray.report.results.noise import Noise
from ferray.report.wording import in_words


def importance_chart(importance: Importance) -> Chart:
    """A bar for each setting."""
    names = [in_words(name) for name in importance.shares]
    shares = list(importance.shares.values())
    bars = {
        "y": field(
            "name", "nominal", sort=None, axis={"labelLimit": 200, "domain": False, "ticks": False, "labelFontSize": 13}
        ),
        "x": field(
            "share",
            "quantitative",
            "share of the variance of scores",
            scale={"domain": [0, 1]},
            axis={"format": "%", "tickCount": 5},
        ),
    }
    layers = [
        {
            "mark": {"type": "bar", "color": "var(--c1)", "height": 18, "cornerRadiusEnd": 3},
            "encoding": bars
            | {"tooltip": [field("name", "nominal", "setting"), field("share", "quantitative", "share", format=".1%")]},
        },
        {
            "mark": {"type": "text", "align": "left", "dx": 6, "fill": "var(--ink)"},
            "encoding": bars | {"text": field("share", "quantitative", format=".0%")},
        },
    ]
    height = 34 * len(names)
    return Chart(
        key="importance",
        title="What moved the score",
        summary="A bar for each searched setting: the share of the variance of scores that it explains by itself.",
        spec=make_spec(height, data=named("bars"), layer=layers),
        datasets={"bars": {"name": names, "share": [six_digits(share) for share in shares]}},
        table=TextTable(
            head=("setting", "share"), rows=[(name, f"{share:.1%}") for name, share in zip(names, shares, strict=True)]
        ),
        height_px=height + 60,
    )


def noise_note(noise: Noise | None) -> str:
    """What "within noise" means; empty where noise is not known."""
    if noise is None:
        return ""
    how = ", which is rough: it comes from the number of validation pictures alone" if noise.is_rough else ""
    low, high = noise.interval
    return f"Within noise: inside the 95 % interval of the winner, {low:.3f} to {high:.3f}{how}."
