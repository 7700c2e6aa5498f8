#!/bin/sh
# Ask apt for the programs that benchmarks compare with, where they are missing.
# Usage: bench_peers.sh
set -eu

cd "$(dirname "$0")"

missing=
note() {
    command -v "$2" >/dev/null || missing="$missing $1"
}
note borgbackup borg
note casync casync
note restic restic
note libcoap3-bin coap-client-notls
note zstd zstd
note gzip gzip

if [ -z "$missing" ]; then
    echo "bench-peers: nothing is missing"
else
    # Word splitting is meant: one argument a package.
    # shellcheck disable=SC2086
    ./deps.sh $missing
fi
