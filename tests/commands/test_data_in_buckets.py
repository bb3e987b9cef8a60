"""`python -m ferray.data` with a store in a bucket, on loopback."""

import json
from pathlib import Path

import pytest
from fixtures.buckets import BucketService
from fixtures.expw import ExpW

from ferray.commands.data import main


def test_prepare_sends_a_store_that_check_reads_and_refuses_to_replace(
    bucket: BucketService, expw: ExpW, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("FERRAY_CACHE", str(tmp_path / "cache"))
    out = "s3://faces/stores/expw"
    asked = ["prepare", "expw", "--images", str(expw.images), "--labels", str(expw.labels), "--out", out]
    assert main([*asked, "--size", "16"]) == 0
    assert f"--space grid --data {out}" in capsys.readouterr().out
    names = ("faces.npy", "labels.npy", "manifest.json", "table.parquet")
    assert bucket.list_keys() == [f"stores/expw/{name}" for name in names]
    assert bucket.of("PUT")[-1] == "PUT stores/expw/manifest.json"
    bucket.asked.clear()
    assert main(["check", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert bucket.of("GET") == ["GET stores/expw/manifest.json"]
    assert main([*asked, "--size", "16"]) == 2
    assert "a store is there already" in capsys.readouterr().err
