#!/usr/bin/env bash
# The main job on the demo model and passages: installs what it needs into .venv, then trains and
# evaluates in runs/demo. Flags are passed on, e.g. --overwrite or --config.restem.rounds=1.
set -euo pipefail
# shellcheck source=launch/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

enter_environment
install_package ""
here="$root/"
[ "$PWD" = "$root" ] && here=""
exec python -m seal_jax train \
  --config="${here}configs/knowledge.py:demo" --workdir="${here}runs/demo" "$@"
