"""One model on stores of other origin: what is left out is counted, and the own test split keeps its rules."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from fixtures.report import copy_store

from ferray.commands import report
from ferray.commands.report import main
from ferray.data.store.reader import Store, open_store
from ferray.data.store.writer import Provenance, StoreWriter
from ferray.errors import DataError
from ferray.report.test_split import evaluate as module
from ferray.report.test_split.evaluate import Evaluation, evaluate
from ferray.report.test_split.read_once import read_test_split

OTHER = ("happy", "contempt", "angry", "fear", "sad", "surprise", "neutral")
"""With a class that the model lacks, and without `disgust`."""


def renamed(store: Store, folder: Path, class_names: tuple[str, ...]) -> Store:
    """The same faces and class numbers under other names."""
    with StoreWriter(folder, num_faces=len(store.labels), size_px=store.size_px) as writer:
        for row, face in enumerate(store.faces):
            writer.put(row, face)
        provenance = Provenance(dataset="other", margin=store.manifest.margin, source_fingerprint="renamed")
        writer.finish(pandas.DataFrame(store.table), class_names, provenance)
    return open_store(folder)


@pytest.fixture
def other(tiny_store: Store, tmp_path: Path) -> Store:
    """Faces of `disgust` are named `contempt`, and classes are in another order."""
    names = tuple("contempt" if name == "disgust" else name for name in tiny_store.class_names)
    return copy_store(renamed(tiny_store, tmp_path / "renamed", names), tmp_path / "other", OTHER)


def test_faces_of_a_class_that_the_model_lacks_are_counted_and_in_no_score(
    tiny_store: Store, best_dir: Path, other: Store
) -> None:
    own, done = evaluate(best_dir, tiny_store, "test"), evaluate(best_dir, other, "test", needs_all=False)
    disgust = tiny_store.class_names.index("disgust")
    kept = own.predictions.labels != disgust
    num_disgust = int((~kept).sum())

    assert num_disgust > 0
    assert done.left_out == {"contempt": num_disgust}
    assert done.absent == ("disgust",)
    assert done.scores.num_faces == kept.sum()
    assert (done.predictions.predicted == own.predictions.predicted[kept]).all()
    assert done.scores.accuracy == pytest.approx(np.mean(own.predictions.is_correct[kept]))
    assert any("contempt" in note and str(num_disgust) in note for note in done.notes)
    assert any("lacks disgust" in note for note in done.notes)
    with pytest.raises(DataError, match="contempt"):
        evaluate(best_dir, other, "test")


def test_a_store_without_any_class_of_the_model_is_refused(tiny_store: Store, best_dir: Path, tmp_path: Path) -> None:
    strange = renamed(tiny_store, tmp_path / "strange", tuple("abcdefg"))
    with pytest.raises(DataError, match="some of the model's classes"):
        evaluate(best_dir, strange, "test", needs_all=False)


def test_several_stores_are_one_table(
    tiny_store: Store, best_dir: Path, other: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    stores = [str(tiny_store.folder), str(other.folder)]
    assert main(["evaluate", str(best_dir), "--data", *stores]) == 0
    shown = capsys.readouterr()
    rows = [line for line in shown.out.splitlines() if line.startswith((tiny_store.folder.name, "other "))]
    assert [row.split()[1:3] for row in rows] == [["21", "0"], ["18", "3"]]
    for words in ("top-1", "95 % interval", "balanced", "constant", "3 of contempt", "lacks disgust"):
        assert words in " ".join(shown.out.split())
    assert max(len(line) for line in shown.out.splitlines() if "/" not in line) <= 80
    assert f"note: {other.folder}: left out" in shown.err


def test_the_table_as_json_has_every_score_by_store(
    tiny_store: Store, best_dir: Path, other: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["evaluate", str(best_dir), "--data", str(other.folder), str(tiny_store.folder), "--json"]
    assert main([*asked, "--split", "validation"]) == 0
    first, second = json.loads(capsys.readouterr().out)["stores"]
    assert (first["data"], second["data"]) == (other.fingerprint, tiny_store.fingerprint)
    assert (first["absent"], second["absent"]) == (["disgust"], [])
    assert first["n"] + sum(first["left_out"].values()) == second["n"]
    assert second.items() >= evaluate(best_dir, tiny_store, "validation").scores.to_json().items()


def test_the_own_test_split_is_not_read_again_among_others(
    tiny_store: Store,
    best_dir: Path,
    other: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    best = tmp_path / "best"
    shutil.copytree(best_dir, best)
    recorded = read_test_split(best, tiny_store, readings=1)
    read: list[Store] = []

    def spy(best_dir: Path, store: Store, split: str, **options: Any) -> Evaluation:
        read.append(store)
        return evaluate(best_dir, store, split, **options)

    monkeypatch.setattr(module, "evaluate", spy)
    assert main(["evaluate", str(best), "--data", str(tiny_store.folder), str(other.folder), "--json"]) == 0
    own, foreign = json.loads(capsys.readouterr().out)["stores"]
    assert [store.fingerprint for store in read] == [other.fingerprint]
    assert (own["read"], own["accuracy"]) == (recorded.read_at, recorded.scores.accuracy)
    assert foreign["read"] is None


def test_a_store_without_the_split_ends_it_before_any_is_scored(
    tiny_store: Store,
    best_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(report, "_read", None)
    stores = [str(tiny_store.folder), str(tmp_path / "none")]
    assert main(["evaluate", str(best_dir), "--data", *stores]) == 2
    assert main(["evaluate", str(best_dir), "--data", *stores[:1] * 2, "--predictions", str(tmp_path / "p.csv")]) == 2
    assert "Give one store" in capsys.readouterr().err


def test_the_model_may_stand_before_the_stores_or_after_them(
    tiny_store: Store, best_dir: Path, other: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(tiny_store.folder), str(other.folder)]
    said = []
    for asked in ([str(best_dir), "--data", *folders], ["--data", *folders, str(best_dir)]):
        assert main(["evaluate", *asked, "--split", "validation", "--json"]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] == said[1]
    assert len(said[0]["stores"]) == 2


def test_without_the_model_the_command_says_what_is_missing(
    tiny_store: Store, other: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--data", str(tiny_store.folder)]) == 2
    assert "the following arguments are required: BEST" in capsys.readouterr().err
    assert main(["evaluate", "--data", str(tiny_store.folder), str(other.folder)]) == 2
    assert f"{other.folder}" in (err := capsys.readouterr().err)
    assert "Give the folder `best`" in err
