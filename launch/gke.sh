#!/usr/bin/env bash
# A run on a TPU slice of a GKE cluster: fills in launch/gke.yaml (an indexed Job) and applies it with
# kubectl, in the current context.
#
#   bash launch/gke.sh --name=seal --image=REGION-docker.pkg.dev/PROJECT/REPOSITORY/seal_jax:TAG \
#     --accelerator=tpu-v5-lite-podslice --topology=2x4 --service-account=seal \
#     --workdir=gs://BUCKET/runs/seal -- train knowledge:qwen2.5-7b
#   kubectl logs --follow job/seal
#   bash launch/gke.sh --name=seal --delete
#
#   --name=NAME             of the Job and its Service
#   --image=IMAGE           has the package with its tpu extra, and the configs in its working directory
#   --accelerator=NAME      the node pool's cloud.google.com/gke-tpu-accelerator
#   --topology=TxT[xT]      the node pool's cloud.google.com/gke-tpu-topology
#   --hosts=N               nodes of the slice (1)
#   --workdir=gs://…        the run's directory
#   --cache=gs://…          compiled programs; default: compilation_cache beside the --workdir
#   --service-account=NAME  Kubernetes account that may write to the bucket (default)
#   --namespace=NAME        default: the context's
#   --attempts=N            restarts after an exit with 75 or a kill (20); preemptions do not count
#   --delete                deletes the Job and its Service
#   --dry-run               prints what would be applied
#
# Kubernetes starts a preempted pod again, and the run continues from its directory. Spot or not is
# the node pool's matter. A Job cannot be changed: delete it before another of that name.
#
# Not run on a cluster: tested with a stand-in for kubectl that knows the flags of kubectl 1.32.
set -euo pipefail
# shellcheck source=launch/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# shellcheck source=launch/remote.sh
. "$(dirname "${BASH_SOURCE[0]}")/remote.sh"

name="" image="" accelerator="" topology="" hosts=1 workdir="" cache="" service_account=default
attempts=20 delete=0 place=()
while [ $# -gt 0 ]; do
  case "$1" in
    --name=*) name="${1#*=}" ;;
    --image=*) image="${1#*=}" ;;
    --accelerator=*) accelerator="${1#*=}" ;;
    --topology=*) topology="${1#*=}" ;;
    --hosts=*) hosts="${1#*=}" ;;
    --workdir=*) workdir="${1#*=}" ;;
    --cache=*) cache="${1#*=}" ;;
    --service-account=*) service_account="${1#*=}" ;;
    --namespace=*) place=("$1") ;;
    --attempts=*) attempts="${1#*=}" ;;
    --delete) delete=1 ;;
    --dry-run) dry_run=1 ;;
    -h | --help) print_help "${BASH_SOURCE[0]}" && exit ;;
    --) shift && break ;;
    *) fail "unknown argument $1: flags have the form --name=value, and the command stands after --." ;;
  esac
  shift
done

case "$name" in
  *[!a-z0-9-]* | '' | -* | [0-9]* | *-) fail "--name=$name: expected small letters, digits and hyphens." ;;
esac
need kubectl "install it, e.g. with \`gcloud components install kubectl\`"
if [ "$delete" = 1 ]; then
  [ $# = 0 ] || fail "--delete takes no command."
  act kubectl delete "job/$name" "service/$name" --ignore-not-found ${place[@]+"${place[@]}"}
  exit
fi

check_command "$@"
require --image "$image" "a container image with the package (docs/launching.md shows how to make one)"
require --accelerator "$accelerator" "e.g. tpu-v5-lite-podslice"
require --topology "$topology" "e.g. 2x4"
require --workdir "$workdir" "the run's directory, e.g. gs://BUCKET/runs/$name"
check_count --hosts "$hosts"
check_count --attempts "$attempts"
case "$workdir" in
  gs://?*) ;;
  *) fail "--workdir=$workdir is in the pod, and gone with it: give gs://BUCKET/..." ;;
esac
chips=1
for side in ${topology//x/ }; do
  check_count "--topology=$topology: a side" "$side"
  chips=$((chips * side))
done
if [ $((chips % hosts)) != 0 ]; then
  fail "--topology=$topology has $chips chips, which $hosts hosts cannot share evenly."
fi

for value in "$name" "$image" "$accelerator" "$topology" "$service_account" "$workdir" "$cache" "$@"; do
  case "$value" in
    *[[:cntrl:]]*) fail "line breaks and tabs cannot be passed on: $(quoted "$value")" ;;
  esac
done

# Prints $1 as a JSON string, which YAML reads as it is.
json_string() {
  printf '"%s"' "$(printf '%s\n' "$1" | sed 's/["\\]/\\&/g')"
}

manifest="$(cat "$root/launch/gke.yaml")"

# Puts $2 in the place of {{$1}}, everywhere.
fill_in() {
  local rest="$manifest" filled=""
  while [ "${rest#*"{{$1}}"}" != "$rest" ]; do
    filled+="${rest%%"{{$1}}"*}$2"
    rest="${rest#*"{{$1}}"}"
  done
  manifest="$filled$rest"
}

fill_in name "$(json_string "$name")"
fill_in image "$(json_string "$image")"
fill_in accelerator "$(json_string "$accelerator")"
fill_in topology "$(json_string "$topology")"
fill_in service_account "$(json_string "$service_account")"
fill_in cache "$(json_string "${cache:-$(dirname "$workdir")/compilation_cache}")"
fill_in hosts "$hosts"
fill_in several "$(json_string "$((hosts > 1))")"
fill_in attempts "$attempts"
fill_in chips "$((chips / hosts))"

# Last, for the arguments may hold anything. Kubernetes would read $(NAME) in them as a variable.
arguments=""
for argument in "$@" "--workdir=$workdir"; do
  # shellcheck disable=SC2016
  argument="$(printf '%s\n' "$argument" | sed 's/\$(/$$(/g')"
  arguments+="${arguments:+, }$(json_string "$argument")"
done
fill_in arguments "[$arguments]"

if [ "$dry_run" = 1 ]; then
  say "the input of: $(quoted kubectl apply --filename=- ${place[@]+"${place[@]}"})"
  printf '%s\n' "$manifest"
  exit
fi
kubectl apply --filename=- ${place[@]+"${place[@]}"} <<<"$manifest"
say "follow it with: $(quoted kubectl logs --follow "job/$name" ${place[@]+"${place[@]}"})"
