"""A model as one file: what it answers, what it says of itself, and that nothing unchecked is left."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from fixtures.train import SmallStore, small_recipe, small_weights
from safetensors import safe_open

from ferray.commands.report import main
from ferray.data.store.reader import Store
from ferray.errors import DataError
from ferray.files import storage
from ferray.predict.export import FORMATS, Exported, draw_pictures, export_model
from ferray.predict.model import Model, load
from ferray.train.checkpoints import portable
from ferray.train.checkpoints.export import export_best, load_model
from ferray.train.checkpoints.writer import Checkpointing
from ferray.train.fit import fit

SUFFIXES = {"onnx": "onnx", "torch-export": "pt2", "safetensors": "safetensors"}


@pytest.fixture(scope="module")
def calibrated(best_dir: Path) -> Path:
    """The model, with a temperature."""
    storage.write_json(best_dir / "calibration.json", {"temperature": 2.5})
    return best_dir


@pytest.fixture(scope="module")
def exported(calibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """The model in every format."""
    folder = tmp_path_factory.mktemp("exported")
    return {form: export_model(calibrated, folder / f"face.{SUFFIXES[form]}", form=form) for form in FORMATS}


def facts_in(one: Exported) -> Any:
    """The facts that a file's metadata has, read by the format's own library."""
    if one.facts["format"] == "onnx":
        return json.loads(onnx.load(one.file).metadata_props[0].value)
    if one.facts["format"] == "safetensors":
        with safe_open(one.file, framework="pt") as opened:
            return json.loads(opened.metadata()["ferray"])
    extra = {"ferray": ""}
    torch.export.load(one.file, extra_files=extra)
    return json.loads(extra["ferray"])


def test_onnxruntime_gives_the_probabilities_of_ferray_for_batches_of_any_size(
    exported: dict[str, Exported], calibrated: Path, tiny_store: Store
) -> None:
    session = onnxruntime.InferenceSession(exported["onnx"].file)
    model = load(calibrated)
    faces = np.asarray(tiny_store.faces[:9])
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape) == ("pictures", "tensor(uint8)", ["batch", *faces.shape[1:]])
    for num in (1, 2, 9):
        (found,) = session.run(None, {"pictures": faces[:num]})
        expected = [list(one.probabilities.values()) for one in model.predict(list(faces[:num]))]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_torch_alone_gives_the_probabilities_of_ferray(exported: dict[str, Exported], calibrated: Path) -> None:
    graph = torch.export.load(exported["torch-export"].file).module()
    pictures = draw_pictures(5, size_px=exported["onnx"].facts["size_px"])
    found = graph(torch.from_numpy(pictures))
    np.testing.assert_allclose(found.numpy(), load(calibrated).probabilities(pictures), atol=1e-5)


def test_safetensors_has_every_tensor_of_the_model_as_it_was(exported: dict[str, Exported], best_dir: Path) -> None:
    with (
        safe_open(exported["safetensors"].file, framework="pt") as some,
        safe_open(best_dir / "model.safetensors", framework="pt") as others,
    ):
        assert sorted(some.keys()) == sorted(others.keys())
        assert all(torch.equal(some.get_tensor(name), others.get_tensor(name)) for name in some.keys())  # noqa: SIM118


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_says_what_it_is_and_so_do_the_files_beside_it(
    form: str, exported: dict[str, Exported], calibrated: Path
) -> None:
    one, model = exported[form], load_model(calibrated)
    facts = facts_in(one)
    assert facts == json.loads(json.dumps(one.facts))
    assert facts["class_names"] == list(model.class_names)
    assert facts["size_px"] == model.preprocessing.size_px
    assert facts["resize"] == model.preprocessing.resize
    assert facts["temperature"] == 2.5
    assert len(facts["trial_id"]) == 12
    assert facts["ferray_version"]
    written = json.loads(one.file.with_name(f"{one.file.name}.json").read_text())
    assert facts.items() <= written.items()
    assert written["parity"]["num_same"] == written["parity"]["num_pictures"] == 32
    text = one.file.with_name(f"{one.file.name}.md").read_text()
    for words in ("INTER_AREA", "INTER_CUBIC", "BORDER_REPLICATE", "EXIF", "angry, disgust", "temperature 2.5"):
        assert words in text


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_names_no_file_of_this_machine(form: str, exported: dict[str, Exported]) -> None:
    data = exported[form].file.read_bytes()
    assert b"/ferray/" not in data
    assert b"site-packages" not in data
    assert b".py" not in data
    assert form != "onnx" or b"pkg.torch" not in data  # the exporter's notes on each part


def test_a_file_that_answers_otherwise_is_not_written(
    calibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(portable, "_remove_traces", lambda model: _disturb(model))
    assert main(["export", str(calibrated), "--out", str(tmp_path / "face.onnx")]) == 2
    assert "Nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def _disturb(model: onnx.ModelProto) -> None:
    """Another weight."""
    tensor = next(one for one in model.graph.initializer if one.name.endswith("head.output.bias"))
    values = onnx.numpy_helper.to_array(tensor) + np.arange(7, dtype=np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def test_given_pictures_are_compared_too_and_those_that_cannot_be_read_are_named(
    calibrated: Path, tiny_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), np.asarray(tiny_store.faces[number])[: 20 + number])
    (folder / "bad.png").write_text("text")
    asked = ["export", str(calibrated), "--format", "safetensors", "--out", str(tmp_path / "a"), "--json"]
    assert main([*asked, "--pictures", str(folder)]) == 0
    shown = capsys.readouterr()
    value = json.loads(shown.out)
    assert (value["parity"]["num_pictures"], value["skipped"]) == (35, 1)
    assert f"skipped: {folder / 'bad.png'}: " in shown.err
    assert main([*asked, "--pictures", str(folder / "bad.png")]) == 2
    assert "none of 1 picture" in capsys.readouterr().err


def test_a_missing_package_is_named_with_its_extra(
    calibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main(["export", str(calibrated), "--out", str(tmp_path / "face.onnx")]) == 2
    assert "ferray[export]" in capsys.readouterr().err


def test_the_script_of_the_documentation_labels_a_picture_as_ferray_does(
    exported: dict[str, Exported], calibrated: Path, tmp_path: Path
) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text()
    (script,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert "ferray" not in re.sub(r'"ferray"', "", script), "it runs without"
    model, random = load(calibrated), np.random.default_rng(1)
    file = tmp_path / "picture.png"
    for height, width in ((45, 70), (20, 13), (7, 300)):
        cv2.imwrite(str(file), random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        asked = [sys.executable, "-c", script, str(exported["onnx"].file), str(file)]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path)
        (expected,) = model.predict(str(file))
        assert json.loads(done.stdout) == pytest.approx(expected.probabilities, abs=1e-5), (height, width)


BFLOAT16: dict[str, Any] = {"precision": "bfloat16"}
FREE = BFLOAT16 | {"freeze": "none"}
OTHER_LAYERS: dict[str, Any] = {
    "backbone": "vgg16_bn",
    "feature_scaling": "standardize",
    "head_pooling": "average",
    "hidden_units": None,
}


@pytest.mark.parametrize(
    "form, settings",
    [
        pytest.param("onnx", BFLOAT16, marks=pytest.mark.slow),
        ("onnx", FREE),
        *(pytest.param(form, OTHER_LAYERS, marks=pytest.mark.slow if form == "onnx" else ()) for form in FORMATS),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_every_kind_of_model_can_be_exported(
    form: str, settings: dict[str, Any], small_rows: None, tmp_path: Path
) -> None:
    recipe = small_recipe(**settings)
    own = small_weights(recipe.backbone)
    store = SmallStore()
    list(fit(recipe, store, own, checkpointing=Checkpointing(tmp_path)))
    export_best(tmp_path / "best", checkpoints=tmp_path, recipe=recipe, store=store, weights=own)
    one = export_model(tmp_path / "best", tmp_path / "face", form=form)
    assert one.parity.num_same == one.parity.num_pictures
    assert one.parity.max_difference < 1e-4
    assert one.parity_as_trained.max_difference < (1e-4 if recipe.precision == "float32" else 0.05)
    assert one.facts["recipe"]["precision"] == recipe.precision


class WithoutTest(Store):
    """A store whose test split must not be read."""

    def rows(self, split: str) -> slice:
        assert split != "test"
        return super().rows(split)


class OtherClasses(Store):
    """A store of other classes."""

    class_names = tuple("abcdefg")


def test_a_file_in_integers_is_smaller_answers_alike_and_says_what_it_costs(
    exported: dict[str, Exported], calibrated: Path, tiny_store: Store, tmp_path: Path
) -> None:
    store = WithoutTest(tiny_store.folder, tiny_store.manifest, tiny_store.faces, tiny_store.labels)
    one = export_model(calibrated, tmp_path / "face.onnx", form="onnx", int8=store)
    graph, rows = onnx.load(one.file).graph, tiny_store.rows("validation")
    pictures, labels = np.asarray(tiny_store.faces[rows]), tiny_store.labels[rows]
    weights = [each for each in graph.initializer if each.data_type == onnx.TensorProto.INT8]
    assert len(weights) >= sum(node.op_type in ("Conv", "Gemm") for node in graph.node) > 0
    assert one.num_bytes < exported["onnx"].num_bytes
    assert max(np.abs(onnx.numpy_helper.to_array(each).astype(int)).max() for each in weights) <= 64, "no overflow"

    run = onnxruntime.InferenceSession(one.file).run
    found = np.concatenate([run(None, {"pictures": pictures[at : at + 1]})[0] for at in range(len(pictures))])
    plain = onnxruntime.InferenceSession(exported["onnx"].file).run(None, {"pictures": pictures})[0]
    cost = facts_in(one)["int8"]
    assert cost["accuracy_int8"] == pytest.approx((found.argmax(axis=1) == labels).mean())
    assert cost["accuracy_float"] == pytest.approx((plain.argmax(axis=1) == labels).mean())
    assert cost["difference"] == pytest.approx(cost["accuracy_int8"] - cost["accuracy_float"])
    assert cost["num_same"] == (found.argmax(axis=1) == plain.argmax(axis=1)).sum()
    assert cost["max_difference"] == pytest.approx(np.abs(found - plain).max(), abs=1e-5)
    assert 0 < cost["max_difference"] < 0.2
    assert (cost["num_pictures"], cost["num_bytes_float"]) == (
        len(labels),
        pytest.approx(exported["onnx"].num_bytes, abs=3000),
    )
    assert f"{cost['accuracy_int8']:.4f}" in one.file.with_name("face.onnx.md").read_text()


def test_integers_are_refused_for_other_classes_and_other_formats(
    calibrated: Path, tiny_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["export", str(calibrated), "--out", str(tmp_path / "face"), "--int8", str(tiny_store.folder)]
    assert main([*asked, "--format", "safetensors"]) == 2
    assert "written as onnx, not as safetensors" in capsys.readouterr().err
    other = OtherClasses(tiny_store.folder, tiny_store.manifest, tiny_store.faces, tiny_store.labels)
    with pytest.raises(DataError, match="the model has angry"):
        export_model(calibrated, tmp_path / "face", form="onnx", int8=other)
    assert list(tmp_path.iterdir()) == []


def test_a_high_temperature_shows_the_same_in_a_file_as_in_ferray_where_logits_differ_by_hundreds(
    best_dir: Path,
) -> None:
    loaded = load_model(best_dir, precision="float32")
    with torch.no_grad():
        loaded.classifier.free.head.output.weight.mul_(3000)
    pictures = draw_pictures(16, size_px=loaded.preprocessing.size_px)
    module = portable.make_inference(loaded, temperature=20.0)
    logits = loaded.classifier(torch.from_numpy(pictures))
    assert (logits.max(dim=1).values - logits.min(dim=1).values).max() > 200

    found = portable.make_runner(module, device=loaded.device)(pictures)

    np.testing.assert_allclose(found, Model(loaded, temperature=20.0).probabilities(pictures), atol=1e-5)
