#!/usr/bin/env bash
# One recipe on one or more whole nodes of a Slurm cluster; the first node holds Ray's head and the driver.
#
#     sbatch deploy/slurm.sh RECIPE [options of tamis run]
#     sbatch --nodes=1 deploy/slurm.sh RECIPE            # one machine: no cluster is started
#
# What must stay true: the job may be preempted, requeued or run into its time limit at any moment; the same command then
# continues from the receipts in the output, which all nodes must reach under one path or URL. TAMIS_SETUP is a line that
# makes `tamis` and `ray` callable on every node: TAMIS_SETUP='source /shared/venv/bin/activate'.
#SBATCH --job-name=tamis
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --mem-per-cpu=2G
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@300
#SBATCH --output=%x-%j.log
set -euo pipefail

recipe=${1:?usage: sbatch deploy/slurm.sh RECIPE [options of tamis run]}
shift
eval "${TAMIS_SETUP:-:}"
cpus=${SLURM_CPUS_PER_TASK:?give --cpus-per-task}
export SRUN_CPUS_PER_TASK=$cpus # since Slurm 22.05 srun takes one CPU where it is not told
names=$(scontrol show hostnames "${SLURM_JOB_NODELIST:?this is a batch script: sbatch deploy/slurm.sh RECIPE}")
mapfile -t nodes <<<"$names"

steps=() # Ray's processes, as background jobs
driver=
asked=
# Preempted, or the time is nearly up: the driver stops after the units at hand and gives its lock back.
stop() {
    asked=yes
    [[ -z $driver ]] || kill -INT "$driver" 2>/dev/null || true
}
trap stop TERM
again() {
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
}
trap '(( ! ${#steps[@]} )) || kill "${steps[@]}" 2>/dev/null || true' EXIT

# A folder of Ray for this job alone: sockets and logs of other users may lie below /tmp/ray.
folder=/tmp/ray-$SLURM_JOB_ID
if ((${#nodes[@]} > 1)); then
    head=${nodes[0]}
    address=$(srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}'):$((20000 + SLURM_JOB_ID % 20000))
    export RAY_AUTH_MODE=token RAY_AUTH_TOKEN RAY_ADDRESS=$address
    RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n') # of this job; srun hands it to the other nodes
    spare=$((cpus > 1 ? cpus - 1 : 1))                            # one CPU of the first node is the driver's
    workers=$((spare + (${#nodes[@]} - 1) * cpus))
    srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
        ray start --head --block --node-ip-address="${address%:*}" --port="${address##*:}" --num-cpus="$spare" \
        --object-store-memory=536870912 --temp-dir="$folder" --include-dashboard=false --metrics-export-port=8080 \
        --disable-usage-stats &
    steps+=($!)
    until ray health-check --address "$address" >/dev/null 2>&1; do
        kill -0 "${steps[0]}" 2>/dev/null || { echo "slurm.sh: Ray's head did not start on $head; its message is above" >&2 && exit 1; }
        [[ -z $asked ]] || again
        sleep 2
    done
    # Workers that come later are used when they come.
    srun --overlap --nodes=$((${#nodes[@]} - 1)) --ntasks=$((${#nodes[@]} - 1)) --exclude="$head" \
        ray start --block --address="$address" --num-cpus="$cpus" --object-store-memory=536870912 --disable-usage-stats &
    steps+=($!)
else
    workers=$cpus
    export RAY_TMPDIR=$folder
    mkdir -p "$folder"
fi

set -m # else bash starts it with SIGINT ignored
tamis run "$recipe" --executor ray --workers "$workers" "$@" &
driver=$!
set +m
[[ -z $asked ]] || stop
status=0
wait "$driver" || status=$?
if [[ -n $asked ]]; then # that wait may have been ended by the signal, not by the driver
    status=0
    wait "$driver" || status=$?
fi
[[ -z $asked ]] || ((!status)) || again
exit "$status"
