# shellcheck shell=bash
# Sourced by the launchers beside it, after environment.sh: does commands or shows them, quotes them,
# and refuses what cannot work.

dry_run=0

# Prints the arguments as one line that bash reads back as the same arguments.
quoted() {
  local line
  printf -v line ' %q' "$@"
  printf '%s\n' "${line# }"
}

# Does a command; under --dry-run prints it instead.
act() {
  if [ "$dry_run" = 1 ]; then
    quoted "$@"
  else
    "$@"
  fi
}

# Prints what the next commands are for, to standard error; under --dry-run as a comment among them.
say() {
  if [ "$dry_run" = 1 ]; then
    printf '# %s\n' "$1"
  else
    printf '%s\n' "$1" >&2
  fi
}

# Prints the comment at the top of script $1: its help.
print_help() {
  awk 'NR > 1 { if (!/^#/) exit; if (!/^#SBATCH/) { sub(/^# ?/, ""); print } }' "$1"
}

# Refuses to go on without the program $1; $2 says where it comes from.
need() {
  if [ "$dry_run" != 1 ] && ! command -v "$1" >/dev/null 2>&1; then
    fail "there is no $1 on the PATH: $2 (--dry-run shows what would be done without it)."
  fi
}

# Refuses a value that is missing: $1 names the flag, $2 is its value, $3 says what it is.
require() {
  [ -n "$2" ] || fail "$1=... is missing: $3. --help shows an example."
}

# Refuses the arguments for seal_jax if there are none, or if they name a --workdir of their own.
check_command() {
  local argument
  [ $# -gt 0 ] || fail "no command: put one after --, e.g. -- train --config=FILE:VARIANT"
  for argument in "$@"; do
    case "$argument" in
      --workdir | --workdir=* | -workdir | -workdir=*)
        fail "give --workdir before the --: the launcher has to know it." ;;
    esac
  done
}

# Prints what to add to the extras of the package where the command has gs:// paths.
gcs_extra() {
  case " $* " in
    *gs://*) printf ',gcs' ;;
  esac
}

# Refuses a number that is not a positive integer: $1 names the flag, $2 is its value.
check_count() {
  case "$2" in
    '' | *[!0-9]* | 0*) fail "$1=$2: expected a positive whole number." ;;
  esac
}
