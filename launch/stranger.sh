#!/usr/bin/env bash
# Does what a stranger would: installs a wheel in a bare environment, away from this checkout, and runs
# every command that the README and docs/start.md give, in order, on 2 cores with 6 GB of memory.
#
#   python -m build && bash launch/stranger.sh dist/seal_jax-*.whl
#
#   --pages=FILE,FILE  other pages than README.md,docs/start.md
#   --list             prints the commands and runs none
#   --skip=PATTERN     commands that match this (an extended regular expression) are not run
#   --log=FILE         also written there (stranger.log): each command, its seconds, its exit code
#
# A block fenced as bash is a script of its own; blocks share a folder. Commands that install the package
# (pip install ., git clone, python -m venv) are taken for done. The exit status is the number of blocks
# that failed. Settings of the environment (PYTHON): launch/environment.sh.
set -euo pipefail
# shellcheck source=launch/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

pages="README.md,docs/start.md" skip="" list=0 log="$PWD/stranger.log" wheel=""
while [ $# -gt 0 ]; do
  case "$1" in
    --pages=*) pages="${1#*=}" ;;
    --skip=*) skip="${1#*=}" ;;
    --log=*) log="$(realpath "${1#*=}")" ;;
    --list) list=1 ;;
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" && exit ;;
    *.whl) wheel="$(realpath "$1")" ;;
    *) fail "unknown argument $1: give a wheel (python -m build) and flags of the form --name=value." ;;
  esac
  shift
done

# Prints the blocks of a page that are fenced as bash, each ended by a null byte.
blocks() {
  awk '/^```bash$/ { inside = 1; next } /^```$/ { if (inside) printf "%c", 0; inside = 0; next } inside' "$1"
}

# Whether $1 is how a checkout is installed: the wheel stands in for it.
installs() {
  grep -Eq '^(git clone|bash launch/(demo|test|gpu|tpu_vm|gke)\.sh|sbatch)|^(python3? -m venv|\. \.venv|pip install)' <<<"$1"
}

if [ "$list" = 0 ]; then
  [ -n "$wheel" ] || fail "no wheel: python -m build makes one in dist/."
  python="$(find_python)"
  home="$(mktemp -d)"
  trap 'rm -rf "$home"' EXIT
  # Nothing of the caller's: no PYTHONPATH, no caches, no settings of JAX; but the ways to the network.
  keep=(HOME="$home" PATH="$home/bare/bin:/usr/local/bin:/usr/bin:/bin" LANG=C.UTF-8)
  while IFS= read -r name; do
    keep+=("$name=${!name}")
  done < <(compgen -e | grep -Ei '^(https?_proxy|no_proxy|pip_.*|ssl_cert_file|requests_ca_bundle)$' || true)
  limit=(env -i "${keep[@]}")
  # 6 GB of memory where a control group can be had; else of addresses that are written to, by prlimit.
  if systemd-run --user --scope --quiet true 2>/dev/null; then
    limit=(systemd-run --user --scope --quiet --property=MemoryMax=6G --property=MemorySwapMax=0 "${limit[@]}")
  else
    limit=(prlimit --data=6442450944 "${limit[@]}")
  fi
  command -v taskset >/dev/null && limit=(taskset --cpu-list "${SEAL_CORES:-0,1}" "${limit[@]}")
  mkdir "$home/work"
  cp -R "$root/docs/own_texts" "$home/work/"
  : >"$log"
fi

say() { printf '%s\n' "$1" | tee -a "$log"; }

# Runs a script in the bare environment, and logs it.
try() {
  local start="$SECONDS" code=0
  (cd "$home/work" && "${limit[@]}" bash -euo pipefail -c "$1") </dev/null >"$home/output" 2>&1 || code=$?
  say "$(printf '%s' "$1" | sed 's/^/    /')"
  say "exit $code, $((SECONDS - start)) s"
  if [ "$code" != 0 ]; then
    say "$(tail -n 15 "$home/output" | sed 's/^/  | /')"
  fi
  return "$code"
}

failed=0
if [ "$list" = 0 ]; then
  say "$(basename "$wheel"), $("$python" --version), $(uname -sm), $(date -u +%Y-%m-%d)"
  "$python" -m venv "$home/bare"
  try "pip install --quiet --disable-pip-version-check $wheel" || fail "the wheel cannot be installed: see $log."
fi
IFS=, read -ra every <<<"$pages"
for page in "${every[@]}"; do
  [ "$list" = 1 ] || say "== $page"
  while IFS= read -r -d '' block; do
    kept="$(while IFS= read -r line; do installs "$line" || printf '%s\n' "$line"; done <<<"$block")"
    [ -n "${kept//[[:space:]]/}" ] || continue
    if [ "$list" = 1 ]; then
      printf '%s: %s\n' "$page" "${kept//$'\n'/; }"
    elif [ -n "$skip" ] && grep -Eq -- "$skip" <<<"$kept"; then
      say "$(printf '%s' "$kept" | sed 's/^/    /')"
      say "not run: --skip"
    else
      try "$kept" || failed=$((failed + 1))
    fi
  done < <(cd "$root" && blocks "$page")
done
[ "$list" = 1 ] || say "$failed blocks failed"
exit "$failed"
