"""Rung 6: the script of an afternoon: features of each view once, in memory, then one point after the other.

Where every layer is free there is nothing to keep, and it is rung 2 in one process.

    python -m ladder_rungs.cached JOB
"""

import sys
from functools import cache
from typing import Any

import torch
from ladder_rungs.training import (
    READ_BATCH,
    Job,
    Read,
    Split,
    altered_faces,
    load_data,
    load_trunk,
    read_job,
    read_pictures,
    run_frozen,
    train_point,
    view_of,
)
from torch import Tensor


def main(job: Job) -> None:
    """Train all points."""
    trunk = load_trunk(job.trunk, job.freeze, job.precision)

    @cache
    def features(split: Split, policy: str, view: int) -> Tensor:
        data = load_data(job.store)
        faces = data.faces[split] if split == "validation" else altered_faces(job.store, policy, job.seed, view)
        return torch.cat([run_frozen(trunk, part) for part in faces.split(READ_BATCH)])

    def open_epoch(job: Job, point: dict[str, Any], epoch: int) -> Read:
        train = features("train", point["augmentation"], view_of(job, point, epoch))
        held: dict[Split, Tensor] = {"train": train, "validation": features("validation", "none", 0)}
        return lambda split, rows_B: held[split][rows_B]

    for number in range(len(job.points)):
        train_point(job, number, open_epoch=read_pictures if job.freeze == "none" else open_epoch)


if __name__ == "__main__":
    main(read_job(sys.argv[1]))
