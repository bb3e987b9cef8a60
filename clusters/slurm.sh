#!/bin/bash
# One search on the nodes of a Slurm allocation: Ray on each of them, the search on the first, all gone at the end.
#
#   cd ferray && OUT=/shared/runs NAME=first sbatch clusters/slurm.sh --space grid --data /shared/data/expw
#
# Words after the script are options of `python -m ferray.search`; OUT and NAME are --out and --name. OUT and the folder
# that sbatch is called in must be the same on all nodes, .venv in it or named by VENV. Called again with the same OUT
# and NAME, it goes on with that search; so does Slurm itself, when the job was preempted, lost a node, or ran out of time.
#
#   tail -f slurm-JOB.out               the search; or python -m ferray.report watch /shared/runs/first
#   scancel --batch --signal=INT JOB    ends it as Ctrl-C does: every epoch is kept, its report written
#   scancel JOB                         ends it at once; finished epochs are kept
#
#SBATCH --job-name=ferray
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=08:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append

set -u
: "${OUT:?is the folder of searches, which all nodes see}" "${NAME:?is the name of the search}"
export VENV=${VENV:-$PWD/.venv} SELF=${SELF:-$PWD/clusters/slurm.sh}
export PATH=$VENV/bin:$PATH

# Two ports of its own, since another job may run on the same node; and Ray's files under the job's number.
export PORT=$((20000 + SLURM_JOB_ID % 5000 * 2)) TEMP=/tmp/ray-$SLURM_JOB_ID
# The token is drawn for this job. Only its own processes have it; nothing else can join or ask this cluster.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(python -c 'import secrets; print(secrets.token_hex(32))')}
# A node that does not answer for 9 s is dead; a call to it fails after 15 s (docs/cluster.md).
export RAY_health_check_initial_delay_ms=2000 RAY_health_check_period_ms=1000
export RAY_health_check_timeout_ms=2000 RAY_health_check_failure_threshold=3
export RAY_grpc_client_keepalive_time_ms=10000 RAY_grpc_client_keepalive_timeout_ms=5000

# What srun runs on each node: Ray in the foreground; started again where it ends, up to four times.
if [ "${1:-}" = node ]; then
    ulimit -n hard
    role=(--address="$HEAD:$PORT")
    [ "$SLURM_PROCID" != 0 ] ||
        role=(--head --port="$PORT" --ray-client-server-port=$((PORT + 1)) --temp-dir="$TEMP" --include-dashboard=false)
    trap 'kill $ray; wait $ray; exit' TERM
    for _ in 1 2 3 4; do
        ray start --block --disable-usage-stats --num-cpus="$SLURM_CPUS_PER_TASK" "${role[@]}" &
        ray=$!
        wait $ray
    done
    exit 1
fi

export HEAD=${HEAD:-$(hostname)} # of the first node, on which Slurm runs this script
srun --kill-on-bad-exit=0 bash "$SELF" node &
nodes=$!

# SIGTERM, for which a search stops as for Ctrl-C: at `scancel --batch`, and three minutes before the time is up.
search=
requeue=
trap '[ -z "$search" ] || kill -TERM "$search"' INT TERM
trap 'requeue=1; [ -z "$search" ] || kill -TERM "$search"' USR1

until ray status --address "$HEAD:$PORT" > /dev/null 2>&1; do
    kill -0 $nodes 2> /dev/null || { echo "slurm.sh: Ray did not start on $HEAD" >&2; exit 1; }
    sleep 1
done
if [ -e "$OUT/$NAME/search.json" ]; then
    set -- --resume "$NAME"
else
    set -- --name "$NAME" "$@"
fi
python -m ferray.search --address "$HEAD:$PORT" --out "$OUT" "$@" &
search=$!
wait $search
code=$?
while kill -0 $search 2> /dev/null; do # a signal ends `wait`, not the search
    wait $search
    code=$?
done

kill $nodes 2> /dev/null
wait $nodes 2> /dev/null
[ -z "$requeue" ] || scontrol requeue "$SLURM_JOB_ID"
exit $code
