#!/usr/bin/env bash
# A run on a Cloud TPU slice. Gets the slice through a queued resource (the one of that name, or a
# new one), copies this checkout to every worker, installs it there under a Python of its own, runs
# the command, and follows its output. After a preemption it gets another slice and gives the same
# command, which continues the run from its directory on gs://.
#
#   bash launch/tpu_vm.sh --name=seal --project=PROJECT --zone=us-west4-a --type=v5litepod-8 --spot \
#     --workdir=gs://BUCKET/runs/seal -- train knowledge:qwen2.5-7b
#   bash launch/tpu_vm.sh --name=seal --project=PROJECT --zone=us-west4-a --delete
#
# What stands after -- goes to `python -m seal_jax` with its quoting kept, and --workdir with it. The
# command runs apart from the connection: after Ctrl-C or a lost network the same line follows it again.
#
#   --name=NAME       of the queued resource and its TPU VM
#   --project=ID      default: $CLOUDSDK_CORE_PROJECT
#   --zone=ZONE       default: $CLOUDSDK_COMPUTE_ZONE
#   --type=TYPE       accelerator type: v5litepod-8, v6e-8, v5p-8, ...
#   --workdir=gs://…  the run's directory; a path on the VM is taken only without --spot
#   --cache=gs://…    compiled programs; default: compilation_cache beside the --workdir
#   --runtime=NAME    the image; default: the one for JAX on that type
#   --spot            a slice that may be preempted
#   --create-flag=F   one more flag for `queued-resources create`, e.g. --reserved; may be repeated
#   --env=NAME=VALUE  one more environment variable for the command; may be repeated; not for secrets
#   --attempts=N      how often to try: slices asked for, and starts of the command (20)
#   --delete          deletes the queued resource when the command has ended, also when it failed;
#                     without a command, at once
#   --dry-run         prints what would be done
#
# It ends with the command's exit code. A command that fails is not started again, unless it ended
# with 75 ("saved, start me again") or by SIGTERM. Settings, from the environment:
# SEAL_JAX_POLL_SECONDS (30) between two looks at the queued resource.
#
# Not run against Google Cloud: tested with a stand-in for gcloud that knows the flags of gcloud 528.
set -euo pipefail
# shellcheck source=launch/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# shellcheck source=launch/remote.sh
. "$(dirname "${BASH_SOURCE[0]}")/remote.sh"

name="" type="" workdir="" cache="" runtime="" spot=0 delete=0 attempts=20
project="${CLOUDSDK_CORE_PROJECT:-}" zone="${CLOUDSDK_COMPUTE_ZONE:-}"
poll="${SEAL_JAX_POLL_SECONDS:-30}"
create_flags=() variables=()

while [ $# -gt 0 ]; do
  case "$1" in
    --name=*) name="${1#*=}" ;;
    --project=*) project="${1#*=}" ;;
    --zone=*) zone="${1#*=}" ;;
    --type=*) type="${1#*=}" ;;
    --workdir=*) workdir="${1#*=}" ;;
    --cache=*) cache="${1#*=}" ;;
    --runtime=*) runtime="${1#*=}" ;;
    --create-flag=*) create_flags+=("${1#*=}") ;;
    --env=*=*) variables+=("${1#*=}") ;;
    --attempts=*) attempts="${1#*=}" ;;
    --spot) spot=1 ;;
    --delete) delete=1 ;;
    --dry-run) dry_run=1 ;;
    -h | --help) print_help "${BASH_SOURCE[0]}" && exit ;;
    --) shift && break ;;
    *) fail "unknown argument $1: flags have the form --name=value, and the command stands after --." ;;
  esac
  shift
done

require --name "$name" "a name for the queued resource"
require --project "$project" "the Google Cloud project that pays (or set CLOUDSDK_CORE_PROJECT)"
require --zone "$zone" "the zone of the TPU, e.g. us-west4-a (or set CLOUDSDK_COMPUTE_ZONE)"
check_count --attempts "$attempts"
need gcloud "install the Google Cloud CLI, https://cloud.google.com/sdk/docs/install"
place=("--project=$project" "--zone=$zone")
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

remove() {
  act gcloud compute tpus queued-resources delete "$name" "${place[@]}" --force --quiet
}

if [ $# = 0 ] && [ "$delete" = 1 ]; then
  remove
  exit
fi

check_command "$@"
require --type "$type" "the accelerator type, e.g. v5litepod-8"
require --workdir "$workdir" "the run's directory, e.g. gs://BUCKET/runs/$name"

# The number in a type counts TensorCores up to v5p and chips in v5e and v6e: to 8, it is one host.
size="${type##*-}"
check_count "--type=$type: its size" "$size"
hosts="$(((size + 7) / 8))"

case "$workdir" in
  gs://?*) cache="${cache:-$(dirname "$workdir")/compilation_cache}" ;;
  *)
    if [ "$spot" = 1 ]; then
      fail "--workdir=$workdir is on the VM's disk, which goes with the VM: --spot needs gs://..."
    fi
    say "note: --workdir=$workdir is on the VM's disk, and is gone when the VM is."
    ;;
esac

if [ -z "$runtime" ]; then
  case "$type" in
    v2-* | v3-* | v4-*) runtime=tpu-ubuntu2204-base ;;
    v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
    v5p-*) runtime=v2-alpha-tpuv5 ;;
    v6e-*) runtime=v2-alpha-tpuv6e ;;
    *) fail "no image is known for --type=$type: give --runtime=NAME." ;;
  esac
fi

creations=0

create() {
  creations=$((creations + 1))
  if [ "$creations" -gt "$attempts" ]; then
    fail "asked for a slice $attempts times; giving up. The run continues with the same command."
  fi
  local flags=("--node-id=$name" "--accelerator-type=$type" "--runtime-version=$runtime"
    "--scopes=https://www.googleapis.com/auth/cloud-platform")
  if [ "$spot" = 1 ]; then
    flags+=(--spot)
  fi
  # The odd form is for bash before 4.4, where an empty array counts as unset.
  act gcloud compute tpus queued-resources create "$name" "${place[@]}" "${flags[@]}" \
    ${create_flags[@]+"${create_flags[@]}"}
}

# Prints the state of the queued resource: ABSENT if there is none, UNKNOWN if gcloud cannot say.
state_of() {
  local state
  if state="$(gcloud compute tpus queued-resources describe "$name" "${place[@]}" \
    '--format=value(state.state)' 2>"$scratch/errors")"; then
    printf '%s\n' "${state:-UNKNOWN}"
  elif grep -q NOT_FOUND "$scratch/errors"; then
    printf 'ABSENT\n'
  else
    cat "$scratch/errors" >&2
    printf 'UNKNOWN\n'
  fi
}

# Returns when the slice is there.
get_slice() {
  local state unknown=0
  while :; do
    state="$(state_of)"
    case "$state" in
      ACTIVE) return ;;
      ABSENT | FAILED | SUSPENDED)
        if [ "$state" != ABSENT ]; then
          say "queued resource $name is $state: deleting it and asking again"
          remove || say "it could not be deleted (see above)"
        fi
        # The first answer is for the person at the terminal; later ones may be passing trouble.
        create || [ "$creations" -gt 1 ] || fail "no queued resource: see gcloud's message above."
        ;;
      UNKNOWN)
        unknown=$((unknown + 1))
        [ "$unknown" -lt 5 ] || fail "gcloud cannot say how $name is: see its messages above."
        ;;
      *) say "queued resource $name is $state" ;;
    esac
    sleep "$poll"
  done
}

# Runs the shell line $1 on every worker. gcloud passes on its exit code, and ends with 1 if it
# cannot connect; a lost connection it makes again up to ten times, giving the line again.
on_workers() {
  act gcloud compute tpus tpu-vm ssh "$name" "${place[@]}" --worker=all --quiet \
    "--ssh-flag=-o ServerAliveInterval=30" "--command=$1"
}

# Packs the files that git knows or would add, as they are now.
pack() {
  git -C "$root" ls-files -z --cached --others --exclude-standard >"$scratch/files" ||
    fail "$root is no git checkout: the launcher copies the files that git lists."
  while IFS= read -r -d '' file; do
    if [ -e "$root/$file" ]; then
      printf '%s\0' "$file"
    fi
  done <"$scratch/files" >"$scratch/there"
  COPYFILE_DISABLE=1 tar -C "$root" --null -T "$scratch/there" -czf "$scratch/seal_jax.tar.gz"
}

copy() {
  say "copying the checkout to every worker"
  if [ "$dry_run" != 1 ]; then
    pack || exit
  fi
  act gcloud compute tpus tpu-vm scp "$scratch/seal_jax.tar.gz" "$name:seal_jax.tar.gz" \
    "${place[@]}" --worker=all --quiet
}

# Unpacks the checkout, unless a run is under way in it, and installs it.
install() {
  say "installing on every worker"
  on_workers "mkdir -p .seal_jax && cd .seal_jax && if flock -n lock true; then rm -rf checkout && \
mkdir checkout && tar -xzf ../seal_jax.tar.gz -C checkout; fi && bash checkout/launch/tpu_worker.sh"
}

# A worker starts the command once for each number; with the same one it reports how that start ended.
started_by="$(date +%s).$$" start=1

run() {
  local line=(env "SEAL_JAX_START=$started_by.$start")
  if [ -n "$cache" ]; then
    line+=("JAX_COMPILATION_CACHE_DIR=$cache")
  fi
  if [ "$hosts" -gt 1 ]; then
    line+=(SEAL_JAX_MULTI_HOST=1)
  fi
  line+=(${variables[@]+"${variables[@]}"} bash .seal_jax/checkout/launch/tpu_worker.sh)
  say "running on every worker"
  on_workers "$(quoted "${line[@]}" "$@" "--workdir=$workdir")"
}

end() {
  if [ "$delete" = 1 ]; then
    remove || say "the queued resource could not be deleted: see above; it may still cost money."
  elif [ "$1" != 0 ]; then
    say "queued resource $name is kept, and costs money until it is deleted (--delete)."
  fi
  exit "$1"
}

if [ "$dry_run" = 1 ]; then
  say "if there is no queued resource of that name (one that is FAILED or SUSPENDED is deleted first):"
  create
  say "when it is ACTIVE:"
  copy
  install
  run "$@"
  say "if the slice was preempted: the same again, up to $attempts times"
  if [ "$delete" = 1 ]; then
    remove
  fi
  exit
fi

trap 'printf "\nthe command goes on on the workers: the same line follows it again.\n" >&2; exit 130' INT

for ((attempt = 1; attempt <= attempts; attempt++)); do
  get_slice
  code=0
  # Functions after || run on after an error in them: each is one command, or ends itself.
  { copy && install && run "$@"; } || code=$?
  if [ "$code" = 0 ]; then
    say "done: $workdir"
    end 0
  fi
  state="$(state_of)"
  say "attempt $attempt of $attempts ended with code $code; queued resource $name is $state"
  case "$state.$code" in
    ACTIVE.1 | ACTIVE.255) ;; # no connection, or lost: the command may go on without us
    ACTIVE.75 | ACTIVE.143) start=$((start + 1)) ;;
    ACTIVE.70) end 1 ;; # how a worker says 1, which gcloud uses itself
    ACTIVE.*) end "$code" ;;
  esac
  sleep "$poll"
done
say "error: $attempts attempts; giving up. The run continues with the same command."
end 1
