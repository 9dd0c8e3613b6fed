#!/usr/bin/env bash
# A crew of workers as a Slurm array: sbatch --array=0-7 docs/examples/slurm.sh photos
#
# The study was made before, on the login node (docs/scaling.md). Workers come and go as Slurm has
# room; each ends when the study has.
#SBATCH --job-name=distilnas
#SBATCH --array=0-7
#SBATCH --gpus=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@300
#SBATCH --output=distilnas-%A-%a.log
set -euo pipefail

STUDY=${1:?usage: sbatch slurm.sh STUDY}
# The database's address, password included, in a file that nobody else can read.
ADDRESS_FILE=${DISTILNAS_ADDRESS_FILE:-$HOME/.distilnas-storage}
DISTILNAS_STORAGE=$(cat "$ADDRESS_FILE")
export DISTILNAS_STORAGE
# Decoded photographs and the teacher's logits: once for all workers, on the shared file system.
export DISTILNAS_CACHE=${DISTILNAS_CACHE:-$HOME/.cache/distilnas}
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

# exec: Slurm's SIGTERM, five minutes before the end, reaches the worker itself. It ends its epoch,
# writes the checkpoint and leaves; another worker, or this task requeued, goes on from there.
exec distilnas worker "$STUDY" --wait 600
