"""A search runs whatever variables its user has set for other programs, and other versions of the same ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ferray.data.store.reader import Store

SPACE = """\
method: grid
parameters:
  learning_rate: {values: [0.001, 0.0001]}
  batch_size: {value: 8}
  epochs: {value: 1}
"""


@pytest.mark.slow
def test_a_search_runs_with_variables_that_are_for_something_else(tiny_store: Store, tmp_path: Path) -> None:
    temporary = tmp_path / "a folder with spaces" / ("long" * 30)
    temporary.mkdir(parents=True)
    (tmp_path / "space.yaml").write_text(SPACE)
    variables = {
        "TMPDIR": str(temporary), "PYTHONWARNINGS": "error", "MPLBACKEND": "qt4agg",
        "RAY_ADDRESS": "192.0.2.1:6379", "RAY_TRAIN_V2_ENABLED": "0", "RAY_LOG_TO_STDERR": "1", "RAY_USE_TLS": "1",
        "RAY_AIR_LOCAL_CACHE_DIR": "/nowhere", "TUNE_RESULT_DIR": "/nowhere", "TUNE_RESULT_BUFFER_LENGTH": "10",
        "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "192.0.2.1", "GLOO_SOCKET_IFNAME": "none0",
        "http_proxy": "http://127.0.0.1:9", "WANDB_RESUME": "must", "WANDB_RESUME_FROM": "other?_step=3",
    }  # fmt: skip
    done = subprocess.run(
        [
            sys.executable, "-m", "ferray.search", "--space", "space.yaml", "--data", str(tiny_store.folder),
            "--weights", "none", "--wandb", "offline", "--workers-per-trial", "2", "--json",
        ],
        env={**os.environ, **variables}, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["trials"] == {"done": 2}
    (run,) = (tmp_path / "runs").iterdir()
    assert len(list((run / "wandb").glob("offline-run-*"))) == 3
