#!/bin/sh
# Make a virtual environment, or keep the one that is there, and install into it.
# Usage: make_venv.sh DIRECTORY PIP-ARGUMENT...
set -eu
directory=$1
shift

find_python() {
    for name in python3 python3.13 python3.12 python3.11; do
        # Run it: a name on PATH may be a launcher for a version that is not installed.
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "venv: no Python 3.11 or later found (tried python3, python3.13, .12, .11)" >&2
    return 1
}

# An environment that was interrupted half-way, or whose Python is gone, is made anew.
if ! "$directory/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    "$python" -c 'import ensurepip, venv' 2>/dev/null || "$(dirname "$0")/deps.sh" python3-venv
    "$python" -m venv --clear "$directory"
fi
if ! "$directory/bin/python" -m pip install -qq --disable-pip-version-check "$@"; then
    echo "venv: could not install $* into $directory; pip's messages above say why" >&2
    exit 1
fi
