"""What a space varies in vain is named, with its place and the way out; nothing else is."""

import re
from pathlib import Path

import pytest

from ferray.recipe import FIELD_NAMES
from ferray.space import Space, find_space, num_points, read_space
from ferray.space.idle import CONDITIONS, describe_capped_grid, find_idle_settings

SHIPPED = sorted((Path(__file__).resolve().parent.parent / "search_spaces").glob("*.yaml"))


def make(folder: Path, parameters: str, *, method: str = "random", rest: str = "run_cap: 9\n") -> Space:
    file = folder / "mine.yaml"
    metric = "metric: {name: val_accuracy, goal: maximize}\n"
    file.write_text(f"method: {method}\n{metric}{rest}parameters: {{{parameters}}}\n")
    return read_space(file)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_no_shipped_space_varies_anything_in_vain(file: Path) -> None:
    space = read_space(find_space(file.stem))
    assert list(find_idle_settings(space)) == []
    assert describe_capped_grid(space, num_points(space)) is None


@pytest.mark.parametrize(
    "parameters, words",
    [
        ("momentum: {min: 0.1, max: 0.9}", "momentum varies without effect: it needs optimizer: sgd"),
        (
            "augmentation_strength: {values: [0.5, 1.0]}",
            "augmentation_strength varies without effect: it needs an augmentation other than none",
        ),
        ("augmentation_views: {values: [1, 3]}, augmentation: {value: none}", "it needs an augmentation, or random"),
        ("augmentation: {values: [none, light]}, augmentation_strength: {value: 0.0}", "augmentation_strength above"),
        ("trunk_lr_factor: {values: [0.1, 0.3]}", "trunk_lr_factor varies .* another freeze than trunk"),
        ("step_factor: {values: [0.1, 0.3]}, schedule: {values: [cosine, constant]}", "needs schedule: step"),
        ("step_epochs: {values: [1, 3]}", "needs schedule: step"),
        ("effective_number_beta: {values: [0.9, 0.99]}", "needs class_balance: effective_number_weights"),
        ("logit_adjustment_tau: {values: [0.9, 1.0]}", "needs class_balance: logit_adjustment"),
        ("mixup_alpha: {values: [0.2, 0.4]}, batch_size: {value: 1}", "needs batch_size above 1"),
        ("step_epochs: {values: [5, 9]}, schedule: {value: step}, epochs: {value: 5}", "step_epochs below epochs"),
        ("step_factor: {values: [0.1, 0.3]}, schedule: {value: step}, epochs: {value: 5}", "step_epochs below epochs"),
        ("schedule: {values: [constant, step]}, epochs: {value: 5}", "schedule varies .* step_epochs below epochs"),
        ("augmentation_views: {values: [10, 20]}, augmentation: {value: light}", "and fewer views than epochs"),
        ("patience: {values: [9, 20]}, epochs: {value: 10}", "needs a patience below epochs - 1"),
        ("dropout: {distribution: q_uniform, min: 0.1, max: 0.35, q: 0.3}", "dropout is always 0.3: no other multiple"),
        ("learning_rate: {distribution: log_normal, mu: -5, sigma: 0}", "is always the same: sigma is 0"),
        ("batch_size: {values: [8, 16], probabilities: [1, 0]}", "batch_size is never 16: the probability is 0"),
    ],
)
def test_a_setting_that_varies_without_effect_is_named_with_its_line(
    parameters: str, words: str, tmp_path: Path
) -> None:
    (line,) = find_idle_settings(make(tmp_path, parameters))
    assert line.startswith(f"{tmp_path}/mine.yaml:4: ")
    assert re.search(words, line)


@pytest.mark.parametrize(
    "parameters",
    [
        "momentum: {min: 0.1, max: 0.9}, optimizer: {values: [adam, sgd]}",
        "augmentation_views: {values: [1, 3]}, random_erasing: {min: 0.0, max: 0.5}",
        "augmentation_strength: {min: 0.0, max: 2.0}, augmentation: {value: light}",
        "augmentation: {values: [none, light]}, augmentation_strength: {min: 0.0, max: 1.0}",
        "patience: {values: [3, 20]}, epochs: {value: 10}",
        "mixup_alpha: {values: [0.2, 0.4]}, batch_size: {values: [1, 8]}",
        "schedule: {values: [constant, step]}, step_epochs: {min: 4, max: 20}, epochs: {value: 5}",
        "schedule: {values: [constant, cosine]}, epochs: {value: 5}",
        "augmentation_views: {values: [null, 9]}, augmentation: {value: light}",
        "momentum: {value: 0.5}",
        "step_epochs: {values: [2, 4]}, schedule: {values: [step, cosine]}, trunk_lr_factor: {value: 0.5}",
    ],
)
def test_a_setting_that_has_an_effect_at_some_drawn_points_is_not_named(parameters: str, tmp_path: Path) -> None:
    assert list(find_idle_settings(make(tmp_path, parameters))) == []


def test_a_grid_that_repeats_points_says_how_many(tmp_path: Path) -> None:
    parameters = "optimizer: {values: [adam, adamw, sgd]}, momentum: {values: [0.5, 0.9]}, dropout: {values: [0, 0.5]}"
    (line,) = find_idle_settings(make(tmp_path, parameters, method="grid", rest=""))
    assert "momentum has no effect without optimizer: sgd: 4 of 12 points repeat others" in line


@pytest.mark.parametrize(
    "parameters, words",
    [
        ("patience: {values: [null, 3, 9, 20]}, dropout: {values: [0, 0.5]}", "4 of 8 points repeat others"),
        ("augmentation_views: {values: [3, 10, 12]}, augmentation: {values: [light, strong]}", "2 of 6 points repeat"),
        ("schedule: {values: [constant, step, cosine]}, epochs: {value: 5}", "1 of 3 points repeat"),
        ("schedule: {values: [step, cosine]}, step_epochs: {values: [2, 4]}", "avoid that, or fewer such values"),
        ("patience: {values: [3, 20]}", ""),
        ("schedule: {values: [constant, step, cosine]}", ""),
    ],
)
def test_of_values_without_effect_all_but_one_repeat_points(parameters: str, words: str, tmp_path: Path) -> None:
    lines = list(find_idle_settings(make(tmp_path, parameters, method="grid", rest="")))
    assert [words in line for line in lines] == [True] * bool(words), lines


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("momentum", 0.5, "--set momentum: momentum has no effect: it needs optimizer: sgd, which no point has"),
        ("patience", 20, "--set patience: patience has no effect: it needs a patience below epochs - 1"),
        ("momentum", 0.9, ""),
        ("patience", 3, ""),
    ],
)
def test_a_single_setting_of_the_command_line_without_effect_is_named(
    name: str, value: float, words: str, tmp_path: Path
) -> None:
    make(tmp_path, "dropout: {values: [0, 0.5]}")
    space = read_space(tmp_path / "mine.yaml", {name: value})
    assert [words in line for line in find_idle_settings(space)] == [True] * bool(words)


def test_a_condition_is_about_settings_of_the_recipe() -> None:
    for name, condition in CONDITIONS.items():
        assert {name, *condition.reads} <= set(FIELD_NAMES)


@pytest.mark.parametrize(
    "cap, words",
    [
        (1, "the first 1 of the grid's 12 points, in the file's order: dropout 0.0 of 2 values; batch_size 8 of 2 "),
        (3, "dropout 0.0 of 2 values; batch_size 8 of 2 values. For points among all values write `method: random`"),
        (4, "dropout 0.0 of 2 values. For"),
        (6, "dropout 0.0 of 2 values. For"),
        (7, None),
        (12, None),
        (None, None),
    ],
)
def test_a_capped_grid_names_the_values_that_it_leaves_out(cap: int | None, words: str | None, tmp_path: Path) -> None:
    parameters = (
        "dropout: {values: [0.0, 0.5]}, batch_size: {values: [8, 16]}, learning_rate: {values: [0.1, 0.01, 0.001]}"
    )
    space = make(tmp_path, parameters, method="grid", rest="")
    line = describe_capped_grid(space, cap)
    assert (line is None) if words is None else words in str(line)
    assert describe_capped_grid(make(tmp_path, parameters), cap) is None, "random draws are from all values"
