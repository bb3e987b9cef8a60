"""Hostile run folders, checkpoints, best models, W&B files and cached features. Each function makes one parser."""

import json
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fixtures.data import write_tiny_store
from fixtures.history import open_log, write_any_search_file
from fixtures.report import make_trial
from hostile.cases import Parser
from hostile.data import SPACES, expect
from hostile.edits import Edits, edit_json, edit_text, pick

from ferray import recipe as recipes
from ferray import space as spaces
from ferray.files import storage
from ferray.records.points import rank_points, rank_trials
from ferray.records.run import Run


def _json(data: bytes, edits: Edits, *, other: bytes) -> bytes:
    return edit_json(data, edits, seal=storage.with_checksum)


def _unsealed(data: bytes) -> bytes:
    value = json.loads(data)
    if isinstance(value, dict):
        value.pop("checksum", None)
    return json.dumps(value).encode()


def record(folder: Path) -> Parser:
    run = Run(folder / "run")
    trial = make_trial(1)
    run.write_trial(trial)
    file = run.trial_dir(trial.trial_id) / "record.json"

    def read() -> None:
        records = run.read_trials()
        expect(len(records) <= 1, f"{len(records)} records")
        rank_trials(records)
        for point in rank_points(records):
            expect(point.mean == point.mean, "a mean that is no number")
        for one in records:
            recipes.to_json(one.recipe)

    def edit(data: bytes, edits: Edits, *, other: bytes) -> bytes:
        return _json(_unsealed(data), edits, other=other)

    return Parser(name="record.json", seeds=(file.read_bytes(),), file=file, read=read, folder=folder, edit=edit)


def search(folder: Path) -> Parser:
    """`search.json`, read as `--resume` reads it."""
    from ferray.search.dry_run import describe_plan
    from ferray.search.history.resume import open_history
    from ferray.search.options import SearchOptions
    from ferray.search.plan import make_plan

    store = write_tiny_store(folder / "store", size_px=8, per_class=(2, 1, 1))
    run = Run(folder / "runs" / "one")
    file = run.folder / "search.json"
    run.folder.mkdir(parents=True)
    (run.folder / "space.yaml").write_bytes(SPACES[1])
    write_any_search_file(
        run,
        {
            "id": "0123abcd",
            "name": "one",
            "command": "python -m ferray.search",
            "options": {
                "space": "random", "set": ["epochs=3"], "data": str(store.folder), "weights": "none", "seed": 0,
                "max_trials": 3,
                "workers_per_trial": 1, "gpus_per_worker": None, "concurrent_trials": None, "replicates": 1,
                "finalists": 3, "keep": "refit", "wandb": "offline",
            },
            "metric": {"name": "val_loss", "goal": "minimize"},
            "versions": {"ferray": "0"},
            "data": {"folder": str(store.folder), "dataset": "demo", "fingerprint": store.fingerprint},
            "weights": {"vgg16": "cd"},
            "sessions": [{"began": "2026-01-01T00:00:00+00:00", "groups": {}, "devices": ["cpu"]}],
            "test_readings": [],
        },
    )  # fmt: skip
    valid = file.read_bytes()
    for left in run.folder.glob("search.json?*"):
        left.unlink()

    def read() -> None:
        options = SearchOptions(out=str(folder / "runs"), resume="one", dry_run=True)
        with open_history(options) as history:
            list(describe_plan(make_plan(options, history)))

    def edit(data: bytes, edits: Edits, *, other: bytes) -> bytes:
        return _json(_unsealed(data), edits, other=other)

    return Parser(name="search.json", seeds=(valid,), file=file, read=read, folder=folder, edit=edit)


def journal(folder: Path) -> Parser:
    """`journal.jsonl`, replayed as `--resume` replays it, by a search with halving and one without."""
    from ferray.search.tune.decisions import Decisions

    file = folder / "journal.jsonl"
    kinds = []
    for number, text in enumerate(SPACES[:2]):
        (folder / f"{number}.yaml").write_bytes(text)
        kinds.append(spaces.read_space(folder / f"{number}.yaml"))

    def identify(point: dict[str, Any]) -> str:
        return f"{zlib.crc32(json.dumps(point, sort_keys=True).encode()):012x}"

    def decide(kind: spaces.Space) -> Decisions:
        return Decisions(kind, open_log(file), identify=identify, seed=0, max_points=5)

    seeds = []
    for kind in kinds:
        file.unlink(missing_ok=True)
        decisions = decide(kind)
        for _ in range(3):
            suggestion = decisions.suggest()
            assert suggestion != "none left"
            decisions.report_epoch(suggestion.number, 1, 0.5)
            decisions.end(suggestion.number, "done", 1, 0.5)
        seeds.append(file.read_bytes())

    def read() -> None:
        kind = kinds[file.is_file() and b'"result"' in file.read_bytes()]
        decisions = decide(kind)
        decisions.has_more()

    def edit(data: bytes, edits: Edits, *, other: bytes) -> bytes:
        """Some lines changed in their values, with checksums that are right; the last edit may be of the text."""
        lines = data.splitlines()
        last = edits[-1:] if edits[-1][0] < 0.2 else []
        for kind, place, value in edits[: len(edits) - len(last)]:
            at = int(place * len(lines))
            if kind < 0.8:
                lines[at] = _json(_unsealed(lines[at]), [(kind / 2, place * len(lines) % 1, value)], other=b"")
            elif kind < 0.9:
                lines[at], lines[int(value * len(lines))] = lines[int(value * len(lines))], lines[at]
            else:
                del lines[at + 1 :]
            try:
                [_unsealed(line) for line in lines]
            except (ValueError, AttributeError):
                break
        return edit_text(b"\n".join(lines) + b"\n", last, other=other)

    return Parser(name="journal.jsonl", seeds=tuple(seeds), file=file, read=read, folder=folder, edit=edit)


def wandb_files(folder: Path) -> Parser:
    """W&B's log, with checksums that are right for whatever its records say."""
    from ferray.tracking.offline import read_offline_runs
    from ferray.tracking.sent_log import SentLog

    file = folder / "wandb" / "offline-run-20260101_000000-s-t" / "run-s-t.wandb"
    file.parent.mkdir(parents=True)
    header = b":W&B" + struct.pack("<HB", 0xBEE1, 0)

    def field(number: int, value: bytes) -> bytes:
        return _varint(number << 3 | 2) + _varint(len(value)) + value

    def item(key: bytes, value: bytes, *, nested: bool = False) -> bytes:
        return field(2 if nested else 1, key) + field(16, value)

    run = field(
        17,
        b"".join(
            [field(1, b"s-t"), field(3, b"p"), field(4, field(1, item(b"seed", b"3"))), field(8, b"n"), field(10, b"x")]
        ),
    )
    rows = [field(2, field(1, item(b"epoch", str(epoch).encode(), nested=True))) for epoch in (1, 2)]
    summary, end = field(3, field(1, item(b"a", b'{"b": 1}'))), field(18, _varint(1 << 3) + _varint(0))
    seeds = (b"\xfe\xff".join([run, *rows, summary, end]), b"\xfe\xff".join([run, rows[0]]))

    def pack(records: list[bytes]) -> bytes:
        frames = b"".join(
            struct.pack("<IHB", zlib.crc32(b"\x01" + one), len(one), 1) + one for one in records if len(one) < 60_000
        )
        return header + frames

    def edit(data: bytes, edits: Edits, *, other: bytes) -> bytes:
        last = edits[-1:] if edits[-1][0] < 0.3 else []
        changed = edit_text(data, edits[: len(edits) - len(last)], other=other)
        return edit_text(pack(changed.split(b"\xfe\xff")), last)

    def read() -> None:
        (folder / "wandb.jsonl").unlink(missing_ok=True)
        read_offline_runs(folder / "wandb")
        SentLog(folder).sent("s-t")

    valid = tuple(pack(seed.split(b"\xfe\xff")) for seed in seeds)
    by_valid = dict(zip(valid, seeds, strict=True))

    def edit_valid(data: bytes, edits: Edits, *, other: bytes) -> bytes:
        return edit(by_valid[data], edits, other=by_valid[other])

    return Parser(name="wandb", seeds=valid, file=file, read=read, folder=folder, edit=edit_valid)


def sent_log(folder: Path) -> Parser:
    from ferray.tracking.sent_log import SentLog, SentSweep

    file = folder / "wandb.jsonl"
    SentLog(folder).write("s-t", 3, "done")
    SentLog(folder).write("s-u", 1, None)
    SentLog(folder).write_sweep(SentSweep(name="s", id="U3c=", project="p", entity="e", state="RUNNING"))

    def read() -> None:
        SentLog(folder).sent("s-t")
        SentLog(folder).sweep()

    def edit(data: bytes, edits: Edits, *, other: bytes) -> bytes:
        lines = data.splitlines()
        at = int(edits[0][1] * len(lines))
        lines[at] = _json(_unsealed(lines[at]), edits, other=b"")
        return b"\n".join(lines) + b"\n"

    return Parser(name="wandb.jsonl", seeds=(file.read_bytes(),), file=file, read=read, folder=folder, edit=edit)


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def metrics(folder: Path) -> Parser:
    """`metrics.json` beside a model, as `evaluate` and `audit` read it."""
    import numpy as np

    from ferray.metrics.intervals import Bootstrap
    from ferray.metrics.labeled import LabeledPredictions
    from ferray.metrics.scores import score
    from ferray.report.terminal import format_scores
    from ferray.report.test_split.readings import read_test_readings, recorded_score

    store = write_tiny_store(folder / "store", size_px=8, per_class=(2, 1, 1))
    rows = store.rows("test")
    labels = store.labels[rows]
    predictions = LabeledPredictions(
        class_names=store.class_names,
        labels=labels,
        predicted=labels,
        probabilities=None,
        groups=np.arange(len(labels)),
    )
    scores = score(predictions, bootstrap=Bootstrap(resamples=9))
    best = folder / "best"
    value = scores.to_json() | {
        "data": store.fingerprint,
        "split": "test",
        "read": "2026-01-01",
        "test_readings": 1,
        "notes": [],
    }
    storage.write_json(best / "metrics.json", value)
    file = best / "metrics.json"

    def read() -> None:
        read_test_readings(best)
        recorded = recorded_score(best, store, "test")
        if recorded is not None:
            format_scores(recorded.scores, "best", recorded=recorded)
            json.dumps(recorded.to_json())

    def edit(data: bytes, edits: Edits, *, other: bytes) -> bytes:
        return edit_json(data, edits)

    return Parser(name="metrics.json", seeds=(file.read_bytes(),), file=file, read=read, folder=folder, edit=edit)


class _Trained:
    """A small run, its checkpoints and its best model; trunks have few channels while it is in use."""

    def __init__(self, folder: Path) -> None:
        import torch
        from fixtures.train import SmallStore, small_backbone, small_recipe, small_weights

        from ferray.model.backbones import BACKBONES
        from ferray.train.checkpoints.checkpoint import CheckpointFolder
        from ferray.train.checkpoints.export import export_best
        from ferray.train.checkpoints.writer import Checkpointing
        from ferray.train.fit import fit
        from ferray.train.spec import RunSpec

        torch.set_num_threads(1)
        BACKBONES.update({name: small_backbone(name) for name in ("vgg16", "vgg16_bn")})
        self.store, self.weights, self.recipe = SmallStore(), small_weights(), small_recipe(epochs=2)
        self.checkpoints, self.best = folder / "trial", folder / "best"
        self.epochs = list(fit(self.recipe, self.store, self.weights, checkpointing=Checkpointing(self.checkpoints)))  # type: ignore[arg-type]
        export_best(
            self.best, checkpoints=self.checkpoints, recipe=self.recipe, store=self.store, weights=self.weights  # type: ignore[arg-type]
        )  # fmt: skip
        self.folder = CheckpointFolder(self.checkpoints, RunSpec(self.recipe, self.store, self.weights).trial_id)  # type: ignore[arg-type]

    def parser(
        self, name: str, file: Path, read: Callable[[], None], *, folder: Path, edit: Callable[..., bytes]
    ) -> Parser:
        return Parser(name=name, seeds=(file.read_bytes(),), file=file, read=read, folder=folder, edit=edit)


def _safetensors(data: bytes, edits: Edits, *, other: bytes) -> bytes:
    """The facts or the tensors' names, types and places, mostly with a checksum that is right; then maybe any byte."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    from ferray.train.checkpoints.checked_safetensors import _checksum

    size = int.from_bytes(data[:8], "little")
    header, rest, last = data[8 : 8 + size], data[8 + size :], edits[-1:] if edits[-1][0] < 0.3 else []
    value, own = json.loads(header), edits[: len(edits) - len(last)]
    facts = value.pop("__metadata__")["ferray"].partition(" ")[2]
    if edits[0][2] < 0.5:
        facts = edit_json(facts.encode(), own).decode("utf-8", "replace")
    else:
        header = edit_json(json.dumps(value).encode(), own)
    with suppress(SafetensorError, ValueError, TypeError, RecursionError):  # goes out as it is
        value = json.loads(header) if edits[0][2] >= 0.5 else value
        plain = json.dumps(value).encode()
        checksum = _checksum(facts, load(len(plain).to_bytes(8, "little") + plain + rest))
        header = json.dumps(value | {"__metadata__": {"ferray": f"{checksum} {facts}"}}).encode()
    length = pick((len(header), len(header), len(header), 2**63, 2**64 - 1, 0, 10**9), edits[0][1])
    return edit_text(length.to_bytes(8, "little") + header + rest, last)


def last_checkpoint(folder: Path) -> Parser:
    from torch import optim

    from ferray.model.classifier import build_free
    from ferray.train.checkpoints.checkpoint import LAST, restore

    trained = _Trained(folder)

    def read() -> None:
        free = build_free(trained.recipe, trained.weights.tensors, num_classes=7)
        optimizer = optim.Adam(free.parameters())
        state = trained.folder.find_last(trained.recipe)
        if state is not None:
            restore(state, free, optimizer)

    return trained.parser("last", trained.checkpoints / LAST, read, folder=folder, edit=_safetensors)


def best_checkpoint(folder: Path) -> Parser:
    from ferray.train.checkpoints.checkpoint import BEST

    trained = _Trained(folder)

    def read() -> None:
        trained.folder.read_best()

    return trained.parser("best", trained.checkpoints / BEST, read, folder=folder, edit=_safetensors)


def _best(name: str, edit: Callable[..., bytes]) -> Callable[[Path], Parser]:
    def make(folder: Path) -> Parser:
        from ferray.train.checkpoints.export import load_model, predict_probabilities

        trained = _Trained(folder)

        def read() -> None:
            model = load_model(trained.best)
            found = predict_probabilities(model, trained.store.faces[:2])
            expect(found.shape == (2, len(model.class_names)), f"probabilities {found.shape}")

        return trained.parser(name, trained.best / name, read, folder=folder, edit=edit)

    return make


def _plain_json(data: bytes, edits: Edits, *, other: bytes) -> bytes:
    return edit_json(data, edits)


model = _best("model.safetensors", _safetensors)
best_recipe = _best("recipe.json", _plain_json)
best_classes = _best("classes.json", _plain_json)
best_preprocessing = _best("preprocessing.json", _plain_json)


def view(folder: Path) -> Parser:
    """`view.json` of the cache, which is computed anew where it does not fit."""
    import numpy as np

    from ferray.train.features.cache import fill, open_view

    shape = (5, 2, 2, 2)
    place = folder / "views" / "ab"
    made = fill(
        place,
        shape,
        facts={"data": "x"},
        compute=lambda part, _: np.ones((part.stop - part.start, *shape[1:]), np.float16),
    )
    assert made.shape == shape
    file = place / "view.json"

    def read() -> None:
        found = open_view(place, shape)
        expect(found is None or (found == 1).all(), "features of no checksum")

    return Parser(name="view.json", seeds=(file.read_bytes(),), file=file, read=read, folder=folder, edit=_plain_json)


def view_features(folder: Path) -> Parser:
    """`features.npy` of the cache."""
    import os

    import numpy as np
    from hostile.data import npy_edit

    from ferray.train.features.cache import fill, open_view

    shape = (5, 2, 2, 2)
    place = folder / "views" / "ab"
    fill(place, shape, facts={}, compute=lambda part, _: np.ones((part.stop - part.start, *shape[1:]), np.float16))
    file = place / "features.npy"
    valid = file.read_bytes()
    times = iter(range(1, 10**12))

    def write(data: bytes) -> None:
        file.unlink(missing_ok=True)
        file.write_bytes(data)
        os.utime(file, ns=(0, next(times)))

    def read() -> None:
        found = open_view(place, shape)
        expect(found is None or (found == 1).all(), "features that are not what was written")

    return Parser(name="features.npy", seeds=(valid,), file=file, write=write, read=read, folder=folder, edit=npy_edit)
