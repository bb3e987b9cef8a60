import itertools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures.report import draw_predictions, make_predictions, make_trial
from matplotlib.figure import Figure

from ferray.errors import StorageError
from ferray.metrics.calibration import calibrate
from ferray.metrics.intervals import Bootstrap, wilson_interval
from ferray.records.points import rank_trials
from ferray.records.tables import epochs_frame, trials_frame
from ferray.records.trial import TrialRecord
from ferray.report import diagrams, figure, fonts, plots
from ferray.report.axes import pick_axes, settings_text
from ferray.report.wording import exponent_text, in_words, setting_text, value_text
from ferray.space import Metric


def make_trials(**values: Sequence[Any]) -> list[TrialRecord]:
    """The grid of some settings, in W&B's order."""
    points = itertools.product(*values.values())
    return [make_trial(number, **dict(zip(values, point, strict=True))) for number, point in enumerate(points)]


def draw_random(num: int) -> list[TrialRecord]:
    generator = np.random.default_rng(0)
    return [
        make_trial(
            number,
            learning_rate=float(10 ** generator.uniform(-5, -2)),
            batch_size=int(generator.choice([16, 32, 64])),
            dropout=float(generator.uniform(0.05, 0.7)),
            hidden_units=[None, 256][number % 2],
            epochs=1 + number % 3,
        )
        for number in range(num)
    ]


SEARCHES = {
    "grid": make_trials(
        learning_rate=[1e-4, 1e-3], batch_size=[16, 32], dropout=[0.3, 0.5], augmentation=["none", "light"]
    ),
    "half a grid": make_trials(learning_rate=[1e-4, 3e-4, 1e-3], batch_size=[16, 32])[:3],
    "random": draw_random(30),
    "few random": draw_random(3),
    "other parameters": make_trials(dropout=[0.1, 0.3, 0.5], augmentation=["none", "light"]),
    "words only": make_trials(augmentation=["none", "light"], optimizer=["adam", "sgd"]),
    "one number": make_trials(learning_rate=[1e-5, 1e-4, 1e-3]),
    "one word": make_trials(augmentation=["none", "strong", "light"]),
    "one number or none": make_trials(hidden_units=[None, 128, 256]),
    "two seeds": make_trials(learning_rate=[1e-4, 1e-3], seed=[0, 1]),
    "one trial": [make_trial(0, epochs=1)],
    "one failed": [
        make_trial(0, learning_rate=0.1, state="failed"),
        make_trial(1),
        make_trial(2, epochs=0, state="failed"),
    ],
    "no epoch": [make_trial(0, epochs=0, state="failed")],
}
SEARCHED = ["batch_size", "learning_rate", "dropout", "augmentation", "optimizer", "hidden_units", "seed"]


ACCURACY = Metric(name="val_accuracy", goal="maximize")
LOSS = Metric(name="val_loss", goal="minimize")


def draw_heatmap(records: list[TrialRecord], file: Path) -> None:
    plots.draw_heatmap(trials_frame(records), file, metric=ACCURACY, searched=SEARCHED)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer pixels, sooner done."""
    monkeypatch.setitem(figure._STYLE, "savefig.dpi", 50)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were written, in order."""
    figures: list[Figure] = []
    save = Figure.savefig

    def note(made: Figure, *args: Any, **kwargs: Any) -> None:
        figures.append(made)
        save(made, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", note)
    return figures


def caption(figure: Figure) -> str:
    return figure.get_supxlabel().replace("\n", " ")


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for panel in figure.axes for text in panel.texts]


QUICK = ("half a grid", "few random", "words only", "one number or none", "one failed", "no epoch")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SEARCHES]
)
def test_every_kind_of_search_has_its_pictures(name: str, tmp_path: Path) -> None:
    records = SEARCHES[name]
    metric = LOSS if "random" in name or "words" in name else ACCURACY
    trials, epochs = trials_frame(records), epochs_frame(records)
    plots.draw_heatmap(trials, tmp_path / "heatmap.png", metric=metric, searched=SEARCHED)
    plots.draw_curves(epochs, trials, tmp_path / "curves.png", metric=metric, searched=SEARCHED)

    for file in ("heatmap.png", "curves.png"):
        picture = cv2.imread(str(tmp_path / file))
        assert picture is not None
        assert picture.std() > 5  # something is drawn
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "heatmap.png"]


def test_a_cell_shows_the_best_of_its_trials_and_how_many_there_were(tmp_path: Path, drawn: list[Figure]) -> None:
    records = SEARCHES["grid"]
    draw_heatmap(records, tmp_path / "heatmap.png")
    best = [
        max(
            score
            for record in records
            if (record.recipe.learning_rate, record.recipe.batch_size) == cell and (score := record.score()) is not None
        )
        for cell in itertools.product([1e-4, 1e-3], [16, 32])
    ]

    panel = drawn[0].axes[0]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("learning rate", "batch size")
    assert [label.get_text() for label in panel.get_xticklabels()] == ["1e-4", "1e-3"]
    assert sorted(texts(drawn[0])) == sorted(f"{score:.3f}\nbest of 4" for score in best)
    assert "the best of its trials, which differ in dropout, augmentation" in caption(drawn[0])
    assert "How far chance moves a score is not known here." in caption(drawn[0])


def test_cells_within_the_interval_of_the_best_are_marked_and_the_caption_says_why(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    trials = trials_frame(SEARCHES["grid"])
    scores = sorted(set(trials["best_val_accuracy"]), reverse=True)
    for low, words in ((scores[0] - 1e-9, "No other cell is within"), (0.0, "Dashed: within the 95 % interval")):
        file = tmp_path / "heatmap.png"
        plots.draw_heatmap(trials, file, metric=ACCURACY, searched=SEARCHED, interval=(low, 1.0))
        frames = [patch.get_linestyle() for patch in drawn[-1].axes[0].patches]
        assert words in caption(drawn[-1])
        assert len(frames) == (1 if low else 4)
    plots.draw_heatmap(trials_frame(SEARCHES["random"]), file, metric=ACCURACY, searched=SEARCHED, interval=(0.0, 1.0))
    assert "Dark edge: within the 95 % interval of the best, 0.000 to 1.000" in caption(drawn[-1])


@pytest.mark.parametrize("name", ["grid", "random"])
def test_the_color_scale_names_the_scores_that_its_ticks_have(name: str, tmp_path: Path, drawn: list[Figure]) -> None:
    for spread in (1.0, 0.1, 0.37):
        trials = trials_frame(SEARCHES[name])
        trials["best_val_accuracy"] = 0.3 + spread * (trials["best_val_accuracy"] - 0.3)
        plots.draw_heatmap(trials, tmp_path / "heatmap.png", metric=ACCURACY, searched=SEARCHED)
        scale = drawn[-1].axes[1].yaxis
        labels = [label.get_text().replace("\N{MINUS SIGN}", "-") for label in scale.get_ticklabels()]
        assert len(labels) >= 3
        assert list(map(float, labels)) == pytest.approx(list(scale.get_ticklocs()), abs=1e-9)


def test_a_random_search_becomes_points_on_a_logarithmic_scale(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_heatmap(SEARCHES["random"], tmp_path / "heatmap.png")
    panel = drawn[0].axes[0]

    assert len(panel.collections[0].get_offsets()) == 30
    assert panel.get_xscale() == "log"


def test_a_logarithmic_scale_between_two_powers_of_ten_has_numbers(tmp_path: Path, drawn: list[Figure]) -> None:
    rates = [float(10**place) for place in np.linspace(-3.96, -3.02, 12)]
    draw_heatmap([make_trial(number, learning_rate=rate) for number, rate in enumerate(rates)], tmp_path / "a.png")
    panel = drawn[0].axes[0]
    low, high = panel.get_xlim()
    shown = [label.get_text() for label in panel.get_xticklabels() if low <= label.get_position()[0] <= high]

    assert panel.get_xscale() == "log"
    assert shown == ["1e-4", "2e-4", "5e-4", "1e-3"]


def test_long_names_of_columns_do_not_run_into_each_other_and_end_at_their_column(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    backbones = ["vgg16", "mobilenet_v3_large", "efficientnet_v2_s", "convnext_tiny", "resnet18"]
    for records in (
        make_trials(backbone=backbones),
        make_trials(backbone=backbones, dropout=[0.1, 0.5]),
        make_trials(backbone=backbones, dropout=[0.1, 0.5, 0.3])[::4],
    ):
        plots.draw_heatmap(
            trials_frame(records), tmp_path / "heatmap.png", metric=ACCURACY, searched=["backbone", "dropout"]
        )
        labels = drawn[-1].axes[0].get_xticklabels()
        ticks = drawn[-1].axes[0].transData.transform([(label.get_position()[0], 0) for label in labels])[:, 0]

        assert len(labels) > 3
        for label, tick in zip(labels, ticks, strict=True):
            assert label.get_window_extent().x1 == pytest.approx(tick, abs=12)


def test_one_score_has_a_scale_of_scores_that_there_can_be(tmp_path: Path, drawn: list[Figure]) -> None:
    trials = trials_frame(SEARCHES["words only"]).assign(best_val_accuracy=1.0)
    plots.draw_heatmap(trials, tmp_path / "heatmap.png", metric=ACCURACY, searched=SEARCHED)

    assert drawn[0].axes[1].get_ylim()[1] == 1.0


def test_values_that_differ_little_have_different_names(tmp_path: Path, drawn: list[Figure]) -> None:
    records = make_trials(learning_rate=[1.0001e-3, 1.0002e-3], batch_size=[16, 32])
    draw_heatmap(records, tmp_path / "heatmap.png")

    assert [label.get_text() for label in drawn[0].axes[0].get_xticklabels()] == ["0.0010001", "0.0010002"]


def test_a_mean_of_several_trials_is_called_so_and_the_order_of_the_ranking_holds(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    trials = trials_frame(SEARCHES["one number"]).assign(place=[1, 0, 2], num_trials=[3, 3, 1])
    plots.draw_heatmap(trials, tmp_path / "heatmap.png", metric=ACCURACY, searched=SEARCHED)

    score = trials["best_val_accuracy"][1]
    assert f"Best of 3: the point of trial 1, mean {score:.3f} of 3 trials (" in caption(drawn[0])
    assert "in epoch" not in caption(drawn[0])


def test_few_points_without_a_grid_become_points_too(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = zip([1e-4, 3e-4, 1e-3], [16, 32, 64], strict=True)
    draw_heatmap(
        [make_trial(place, learning_rate=rate, batch_size=size) for place, (rate, size) in enumerate(rows)],
        tmp_path / "heatmap.png",
    )

    assert len(drawn[0].axes[0].collections[0].get_offsets()) == 3


def test_the_heatmap_names_the_best_trial_as_the_records_rank_it(tmp_path: Path, drawn: list[Figure]) -> None:
    for name in ("random", "one word"):
        draw_heatmap(SEARCHES[name], tmp_path / "heatmap.png")
        assert f"trial {rank_trials(SEARCHES[name])[0].number}, " in caption(drawn[-1])


def test_the_best_three_curves_are_named_and_the_others_gray(tmp_path: Path, drawn: list[Figure]) -> None:
    records = SEARCHES["grid"]
    plots.draw_curves(
        epochs_frame(records),
        trials_frame(records),
        tmp_path / "curves.png",
        metric=ACCURACY,
        searched=SEARCHED,
    )
    named = [text.get_text() for text in drawn[0].legends[0].get_texts()]

    assert [text.split(":")[0] for text in named] == [f"trial {record.number}" for record in rank_trials(records)[:3]]
    best = rank_trials(records)[0].recipe
    common = drawn[0].legends[0].get_title().get_text()
    for words in (f"learning rate {exponent_text(best.learning_rate)}", f"batch size {best.batch_size}"):
        assert words in f"{named[0]} {common}"
    gray = [line for line in drawn[0].axes[0].lines if line.get_color() == "#BBBBBB"]
    assert len(gray) == len(records) - 3


def test_one_other_trial_is_one_and_a_diverged_loss_flattens_no_panel(tmp_path: Path, drawn: list[Figure]) -> None:
    records = [make_trial(number, learning_rate=10.0**-number) for number in range(1, 5)]
    epochs = epochs_frame(records)
    epochs.loc[epochs["number"] == 4, "val_loss"] = 1e6
    plots.draw_curves(epochs, trials_frame(records), tmp_path / "curves.png", metric=LOSS, searched=SEARCHED)
    lines = [text.get_text() for text in drawn[0].legends[1].get_texts()]

    assert "the other trial, validation" in lines
    assert all(panel.get_ylim()[1] < 100 for panel in drawn[0].axes)


def test_the_same_records_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        draw_heatmap(SEARCHES["grid"], tmp_path / name)

    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_a_confusion_matrix_shows_counts_and_shares_of_the_labels_faces(tmp_path: Path, drawn: list[Figure]) -> None:
    matrix = np.array([[3, 1, 0], [2, 1998, 0], [0, 0, 0]])
    diagrams.draw_confusion(matrix, ("sad", "happy", "fear"), tmp_path / "confusion.png", title="Test: 0.9")
    shown = texts(drawn[0])

    assert shown == ["3\n75%", "1\n25%", "0\n0%", "2\n0%", "1,998\n100%", "0\n0%", "0", "0", "0"]
    assert drawn[0].get_suptitle() == "Test: 0.9"
    assert cv2.imread(str(tmp_path / "confusion.png")) is not None


def test_a_reliability_diagram_shows_each_bin_before_and_after(tmp_path: Path, drawn: list[Figure]) -> None:
    predictions = make_predictions(*draw_predictions(200, sharpness=4.0))
    calibration = calibrate(predictions, predictions, bootstrap=Bootstrap(resamples=50))
    diagrams.draw_reliability(calibration, tmp_path / "reliability.png")

    for panel, errors in zip(drawn[0].axes[:2], (calibration.before, calibration.after), strict=True):
        filled = [row for row in errors.bins if row.faces]
        assert [bar.get_height() for bar in panel.patches] == [row.accuracy for row in filled]
        whiskers, confidences = panel.collections
        ends = [path.vertices[:, 1].tolist() for path in whiskers.get_paths()]
        assert ends == [pytest.approx(wilson_interval(row.accuracy, row.faces)) for row in filled]
        levels = [path.vertices[0, 1] for path in confidences.get_paths()]
        assert levels == pytest.approx([row.confidence for row in filled])
        assert f"ECE {errors.ece:.3f}" in panel.get_title(loc="left")
    legend = drawn[0].legends[0].get_texts()
    assert {text.get_text() for text in legend} == {
        "correct, with 95 % interval",
        "mean confidence",
        "share = confidence",
    }
    assert cv2.imread(str(tmp_path / "reliability.png")) is not None


def test_a_hundred_classes_become_their_worst_pairs_within_seconds(tmp_path: Path, drawn: list[Figure]) -> None:
    matrix = np.random.default_rng(0).integers(0, 3, (100, 100)) + 40 * np.eye(100, dtype=np.int64)
    matrix[7, 31] = 25
    names = [f"class {number}" for number in range(100)]
    diagrams.draw_confusion(matrix, names, tmp_path / "confusion.png", title="Test: 0.9")

    panel = drawn[0].axes[0]
    pairs = [label.get_text() for label in panel.get_yticklabels()]
    assert len(pairs) == diagrams.NUM_PAIRS
    assert pairs[0] == "class 7 → class 31"
    assert f"25 of {matrix[7].sum()}" in texts(drawn[0])[0]
    assert max(drawn[0].get_size_inches()) < 12


@pytest.mark.parametrize("num", [2, 30])
def test_long_names_stay_apart_and_no_title_is_cut(num: int, tmp_path: Path, drawn: list[Figure]) -> None:
    names = [f"a very long name of a class in a set {number}" for number in range(num)]
    matrix = np.random.default_rng(0).integers(1, 9, (num, num))
    title = "Test split, 24 pictures: top-1 accuracy 0.667"
    diagrams.draw_confusion(matrix, names, tmp_path / "confusion.png", title=title)
    figure = drawn[0]
    labels = [label.get_text().split("\n")[0] for label in figure.axes[0].get_yticklabels()]

    assert len(set(labels)) == len(labels)
    assert title in figure.get_suptitle().replace("\n", " ")
    assert figure.texts[0].get_window_extent().x1 <= figure.bbox.x1


def test_names_in_any_script_are_written_or_replaced_by_numbers_that_are_explained(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    names = ("悲しい", "glücklich", "\U0010ffff")  # no font has a sign for the last one
    diagrams.draw_confusion(np.eye(3, dtype=np.int64), names, tmp_path / "confusion.png", title="Test")

    shown = [label.get_text() for label in drawn[0].axes[0].get_xticklabels()]
    assert shown[1:] == ["glücklich", "class 2"]
    note = caption(drawn[0])
    assert "no installed font" in note
    assert "class 2" in note
    assert shown[0] == "悲しい" or "class 0" in note


def test_a_font_is_found_for_what_the_usual_one_cannot_write(monkeypatch: pytest.MonkeyPatch) -> None:
    signs, usual = fonts._signs, fonts._path(fonts.FAMILY)
    monkeypatch.setattr(fonts, "_signs", lambda path: signs(path) - ({ord("ü")} if path == usual else set()))
    found = fonts.make_readable(["glücklich", "sad"])

    assert found.texts == ("glücklich", "sad")
    assert found.families[0] == fonts.FAMILY
    assert len(found.families) == 2
    assert not found.note
    assert fonts.make_readable(["sad"]).families == (fonts.FAMILY,)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match="cannot be written"):
        draw_heatmap(SEARCHES["one trial"], tmp_path / "file" / "heatmap.png")


@pytest.mark.parametrize(
    "value, text",
    [
        (0.001, "0.001"),
        (1e-4, "1e-4"),
        (3.16e-4, "3.16e-4"),
        (2.5e-5, "2.5e-5"),
        (0.5, "0.5"),
        (0.0, "0"),
        (1.0, "1"),
        (1234.0, "1234"),
        (256, "256"),
        (None, "none"),
        ("light", "light"),
    ],
)
def test_a_setting_is_written_as_people_write_it(value: Any, text: str) -> None:
    assert value_text(value) == setting_text("dropout", value) == text


@pytest.mark.parametrize("name", ["learning_rate", "weight_decay"])
def test_what_varies_by_factors_of_ten_has_an_exponent_whatever_stands_beside_it(name: str) -> None:
    texts = [setting_text(name, value) for value in (0.0, 1e-5, 2.345678e-3, 1e-3, 0.01, 0.3, 1.0)]

    assert texts == ["0", "1e-5", "2.35e-3", "1e-3", "1e-2", "0.3", "1"]


@pytest.mark.parametrize(
    "name, words",
    [
        ("val_accuracy", "validation accuracy"),
        ("val_macro_f1", "validation macro F1"),
        ("trunk_lr_factor", "trunk learning rate factor"),
    ],
)
def test_names_are_written_in_words(name: str, words: str) -> None:
    assert in_words(name) == words


def test_words_stand_in_their_own_order_and_numbers_ascend() -> None:
    trials = trials_frame(make_trials(augmentation=["none", "strong", "light"], hidden_units=[512, None, 128]))
    axes = {axis.name: axis for axis in pick_axes(trials.sort_values("best_val_accuracy"), SEARCHED)}

    assert axes["augmentation"].values == ("none", "light", "strong")
    assert axes["hidden_units"].values == (128, 512, None)
    assert not axes["hidden_units"].is_numeric


@pytest.mark.parametrize(
    "values, is_log",
    [([1e-4, 3e-4, 1e-3], True), ([16, 32, 64, 128], True), ([0.05, 0.2, 0.4, 0.5, 0.7], False), ([0.0, 0.5], False)],
)
def test_a_scale_is_logarithmic_where_the_values_ask_for_it(values: list[float], is_log: bool) -> None:
    name = "batch_size" if isinstance(values[0], int) else "dropout"
    axis = pick_axes(trials_frame(make_trials(**{name: values})), SEARCHED)[0]

    assert axis.is_log is is_log


def test_a_trial_is_described_by_what_was_searched() -> None:
    trials = trials_frame(make_trials(batch_size=[16, 32], learning_rate=[1e-4, 1e-3]))

    assert settings_text(1, pick_axes(trials, SEARCHED)) == "learning rate 1e-3, batch size 16"


def test_help_is_light_and_pictures_never_load_pyplot(tmp_path: Path) -> None:
    asked = [sys.executable, "-X", "importtime", "-m", "ferray.report", "evaluate", "--help"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60)
    loaded = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert not loaded & {"torch", "ray", "wandb", "albumentations", "pandas", "pyarrow", "matplotlib", "numpy"}

    code = (
        "import sys, pathlib, numpy; from ferray.report import diagrams, plots; assert 'matplotlib' not in sys.modules;"
        f"file = pathlib.Path({str(tmp_path / 'c.png')!r});"
        "diagrams.draw_confusion(numpy.eye(2, dtype=int), ('a', 'b'), file, title='t');"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
