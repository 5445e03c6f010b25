# shellcheck shell=bash
# Sourced by the scripts beside it: a virtual environment with seal_jax in it.
#
# Settings, from the environment:
#   PYTHON     the Python (>= 3.11) to make the environment with; found by itself if not set
#   SEAL_VENV  the environment's directory (default: .venv in the repository)

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${SEAL_VENV:-$root/.venv}"

fail() {
  printf 'error: %s\n' "$1" >&2
  exit 1
}

# Whether $1 is a Python that this package runs on.
is_new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# Prints the path of a Python >= 3.11.
find_python() {
  local name tried=""
  if [ -n "${PYTHON:-}" ]; then
    is_new_enough "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11 or newer."
    command -v "$PYTHON"
    return
  fi
  for name in python3 python3.14 python3.13 python3.12 python3.11 python; do
    command -v "$name" >/dev/null 2>&1 || continue
    if is_new_enough "$name"; then
      command -v "$name"
      return
    fi
    tried="$tried $name ($("$name" --version 2>&1 | head -n 1));"
  done
  fail "seal_jax needs Python 3.11 or newer; found:${tried:- none;} install one, or set \
PYTHON=/path/to/python3.11 and start again."
}

# Makes the environment if it is not there, and puts its programs first on the PATH.
enter_environment() {
  if ! is_new_enough "$venv/bin/python" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    if [ -e "$venv" ] && [ ! -e "$venv/pyvenv.cfg" ]; then
      fail "$venv is in the way and is no virtual environment: move it, or set SEAL_VENV."
    fi
    local python
    python="$(find_python)" || exit 1
    printf 'making a virtual environment in %s with %s\n' "$venv" "$("$python" --version)" >&2
    "$python" -m venv --clear "$venv" ||
      fail "no virtual environment could be made (on Debian and Ubuntu: install python3-venv)."
  fi
  export PATH="$venv/bin:$PATH" VIRTUAL_ENV="$venv"
  unset PYTHONHOME
}

# Installs the package, editable, with the extras $1 ("" or "test" or "test,parity"), unless that was
# done since setup.cfg and pyproject.toml last changed.
install_package() {
  local extras="${1:+[$1]}" stamp wanted
  stamp="$venv/seal_jax$extras.installed"
  wanted="$root $(cat "$root/setup.cfg" "$root/pyproject.toml" | cksum)"
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    return
  fi
  printf 'installing seal_jax%s (some minutes the first time)\n' "$extras" >&2
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e "$root$extras" ||
    fail "pip could not install seal_jax$extras: see its message above."
  printf '%s\n' "$wanted" >"$stamp"
}
