#!/usr/bin/env bash
# One recipe on a SLURM cluster: sbatch docs/examples/slurm.sh RECIPE RUN_DIR
# DRY_RUN=1 bash docs/examples/slurm.sh RECIPE RUN_DIR   prints the commands and runs none of them.
#SBATCH --job-name=prefline
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --output=prefline-%j.log
# A job that is stopped goes on where it was: SLURM's signal leaves each stage time to write down how far it is.
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
set -euo pipefail

recipe=${1:?usage: slurm.sh RECIPE RUN_DIR}
run_dir=${2:?usage: slurm.sh RECIPE RUN_DIR}
nodes=${SLURM_JOB_NUM_NODES:-2}
gpus=${SLURM_GPUS_ON_NODE:-8}
job=${SLURM_JOB_ID:-dry}
if [ -n "${DRY_RUN:-}" ]; then head=NODE; else head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1); fi

say() { printf '%s ' "$@"; printf '\n'; }
step() { if [ -n "${DRY_RUN:-}" ]; then say "$@"; else "$@"; fi; }

# One process: it reads, or calls engines that spread by themselves.
single() { step srun --nodes 1 --ntasks 1 --nodelist "$head" prefline "$@" --recipe "$recipe" --run-dir "$run_dir"; }
# All GPUs of all nodes train one model.
training() {
    step srun --nodes "$nodes" --ntasks-per-node 1 torchrun --nnodes "$nodes" --nproc-per-node "$gpus" \
        --rdzv-backend c10d --rdzv-id "$job" --rdzv-endpoint "$head:29500" \
        -m pipeline "$@" --recipe "$recipe" --run-dir "$run_dir"
}
# Engines on all nodes sample and judge; Ray hands out the shards.
sampling() {
    single "$@" --set runtime.engine=ray --set "runtime.ray.address=$head:6379" --set runtime.ray.gpus_per_worker=1
}
cluster() {
    step srun --nodes 1 --ntasks 1 --nodelist "$head" ray start --head --port 6379
    [ "$nodes" -eq 1 ] || step srun --nodes "$((nodes - 1))" --ntasks-per-node 1 --exclude "$head" \
        ray start --address "$head:6379"
}

single ingest
training sft
training judge
cluster
sampling sample
sampling label
step srun --nodes "$nodes" --ntasks-per-node 1 ray stop
training train
single evaluate
single report
