#!/bin/sh
# Fuzz the parsers with atheris, in an environment of its own: tests/fuzz/__main__.py.
# Usage: fuzz.sh VENV [TARGET...]
# Where atheris cannot be installed (it has wheels for few platforms), says so and ends well.
set -eu
venv=$1
shift

if [ ! -e "$venv/stamp" ] || [ setup.cfg -nt "$venv/stamp" ]; then
    echo "fuzz: installing the project and atheris into $venv"
    if ! "$(dirname "$0")/make_venv.sh" "$venv" -e '.[test,fuzz]'; then
        echo "fuzz: skipped: atheris cannot be installed here"
        exit 0
    fi
    touch "$venv/stamp"
fi
exec "$venv/bin/python" -m tests.fuzz "$@"
