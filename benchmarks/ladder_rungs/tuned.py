"""Rung 2: a tuned script, one process a point: faces in memory, channels_last, the faster number format.

python -m ladder_rungs.tuned JOB POINT
"""

import sys

from ladder_rungs.training import read_job, train_point

if __name__ == "__main__":
    train_point(read_job(sys.argv[1]), int(sys.argv[2]))
