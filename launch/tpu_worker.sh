#!/usr/bin/env bash
# What tpu_vm.sh starts on every worker of a TPU slice (Linux). Without arguments: brings a Python
# and installs the package with its tpu extra. With arguments: runs `python -m seal_jax ARGUMENTS`
# apart from the connection and follows its output; when it is under way already, only follows it.
#
# Settings, from the environment:
#   SEAL_JAX_START   names this start of the command: given again, it tells how that start ended
#
# Everything is in ~/.seal_jax: checkout, venv, bin (uv), log and exit (code) of the command. It ends
# with the command's exit code, or with 70 for 1, because gcloud ends with 1 when it cannot connect.
set -euo pipefail
state="$HOME/.seal_jax"
export SEAL_VENV="${SEAL_VENV:-$state/venv}"
# shellcheck source=launch/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
code=0
trap 'code=$?; [ "$code" != 1 ] || code=70; exit "$code"' EXIT
mkdir -p "$state"

# The images' own Python may be older than 3.11, and may lack venv.
install() {
  export PATH="$state/bin:$PATH"
  if ! command -v uv >/dev/null 2>&1; then
    curl -LsSf https://astral.sh/uv/install.sh | env UV_UNMANAGED_INSTALL="$state/bin" sh >&2 ||
      fail "uv could not be fetched from astral.sh: does this VM reach the internet?"
  fi
  cd "$state"
  uv python install 3.12 >&2 || fail "uv could not fetch Python 3.12: see its message above."
  PYTHON="$(uv python find 3.12)" || fail "uv does not find the Python 3.12 that it fetched."
  enter_environment
  install_package tpu
}

# Prints the log from line $1 on (or its last lines: "20") until the command has ended.
follow() {
  while [ ! -s "$state/pid" ]; do
    sleep 0.2
  done
  tail -n "$1" -s 0.2 -f --pid="$(cat "$state/pid")" "$state/log"
}

run() {
  local command
  printf -v command '%q ' "$@"
  exec 9>>"$state/lock"
  if ! flock -n 9; then
    if [ "$(cat "$state/command")" != "$command" ]; then
      fail "another command runs on this worker: $(cat "$state/command")
Wait for it, or delete the TPU (--delete)."
    fi
    printf 'the command is under way; its last lines:\n' >&2
    follow 20
  elif [ -f "$state/exit" ] && [ "$(cat "$state/start")" = "${SEAL_JAX_START:-}" ]; then
    printf 'the command has ended; its last lines:\n' >&2
    tail -n 20 "$state/log"
  else
    rm -f "$state/exit" "$state/pid"
    printf '%s\n' "$command" >"$state/command"
    printf '%s\n' "${SEAL_JAX_START:-none}" >"$state/start"
    # The shell that waits for the command holds the lock; the command itself does not. It writes its
    # own number: this script may be ended, with the connection, at any moment.
    # shellcheck disable=SC2016
    setsid bash -c '
      cd "$1" && state="$2" && shift 2
      printf "%s\n" "$$" >"$state/pid"
      code=0
      "$@" 9>&- || code=$?
      printf "%s\n" "$code" >"$state/exit.new" && mv "$state/exit.new" "$state/exit"
    ' tpu_worker "$root" "$state" "$SEAL_VENV/bin/python" -m seal_jax "$@" \
      >"$state/log" 2>&1 </dev/null &
    exec 9>&-
    follow +1
  fi
  # Nothing is written where the worker went down under the command: that is like a SIGTERM.
  exit "$(cat "$state/exit" 2>/dev/null || printf '143\n')"
}

if [ $# = 0 ]; then
  install
else
  run "$@"
fi
