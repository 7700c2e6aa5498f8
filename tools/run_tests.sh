#!/bin/sh
# run_tests.sh PYTHON MYPY: the tests, and beside them the types.
#
# Checking types keeps one processor busy, and the tests are slow to begin.
types=$(mktemp)
trap 'rm -f "$types"' EXIT
"$2" >"$types" 2>&1 &
checking=$!
"$1" -m pytest -n 4 --dist loadfile --no-loadscope-reorder
tests=$?
wait "$checking"
checked=$?
echo "types:"
cat "$types"
[ "$tests" -ne 0 ] && exit "$tests"
exit "$checked"
