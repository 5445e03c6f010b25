#!/usr/bin/env bash
# A run on all GPUs of this machine, in one process: makes an environment with JAX for CUDA in .venv
# and gives the command to `python -m seal_jax` in it. The same line continues an interrupted run.
#
#   bash launch/gpu.sh -- train knowledge:qwen2.5-7b --workdir=runs/seal
#
#   --cuda=12|13  the CUDA that is installed with JAX (12); 13 needs a driver of 580 or newer
#   --dry-run     prints what would be done
#
# Some of the GPUs: CUDA_VISIBLE_DEVICES=0,1 before the line. Settings of the environment (PYTHON,
# SEAL_VENV): launch/environment.sh.
set -euo pipefail
# shellcheck source=launch/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# shellcheck source=launch/remote.sh
. "$(dirname "${BASH_SOURCE[0]}")/remote.sh"

cuda=12
while [ $# -gt 0 ]; do
  case "$1" in
    --cuda=*) cuda="${1#*=}" ;;
    --dry-run) dry_run=1 ;;
    -h | --help) print_help "${BASH_SOURCE[0]}" && exit ;;
    --) shift && break ;;
    *) fail "unknown argument $1: flags have the form --name=value, and the command stands after --." ;;
  esac
  shift
done
[ $# -gt 0 ] || fail "no command: put one after --, e.g. -- train --config=FILE --workdir=DIR"
case "$cuda" in
  12) oldest=525 ;;
  13) oldest=580 ;;
  *) fail "--cuda=$cuda: expected 12 or 13." ;;
esac

if [ "$dry_run" = 1 ]; then
  act nvidia-smi --query-gpu=driver_version --format=csv,noheader
  say "the environment $venv, unless it is there:"
  act "${PYTHON:-python3}" -m venv --clear "$venv"
  act "$venv/bin/python" -m pip install -e "${root}[cuda$cuda$(gcs_extra "$@")]"
else
  need nvidia-smi "it comes with NVIDIA's driver; is this a GPU machine?"
  drivers="$(nvidia-smi --query-gpu=driver_version --format=csv,noheader)" ||
    fail "nvidia-smi does not find a GPU: $drivers"
  driver="$(head -n 1 <<<"$drivers")"
  if [ "${driver%%.*}" -lt "$oldest" ]; then
    fail "the NVIDIA driver is $driver, and CUDA $cuda needs $oldest or newer: update it$(
      [ "$cuda" = 12 ] || printf ', or give --cuda=12'
    )."
  fi
  say "$(wc -l <<<"$drivers" | tr -d ' ') GPUs, driver $driver; candidates are spread over them where \
inner.candidates divides by their number"
  enter_environment
  install_package "cuda$cuda$(gcs_extra "$@")"
fi
export XLA_PYTHON_CLIENT_MEM_FRACTION="${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.92}" # as planning/machines.py counts
act exec "$venv/bin/python" -m seal_jax "$@"
