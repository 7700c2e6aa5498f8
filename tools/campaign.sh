#!/bin/sh
# The property tests with random examples: rounds, each with a seed of its own, until the time is up.
# Usage: campaign.sh PYTHON SECONDS [SEED], the seed to begin with. A round that fails ends it.
set -eu

python=$1
seconds=$2
seed=${3:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
end=$(($(date +%s) + seconds))

while :; do
    echo "campaign: seed $seed"
    "$python" -m pytest -q -m hypothesis --hypothesis-profile=campaign --hypothesis-seed="$seed" || {
        echo "campaign: seed $seed failed; again: tools/campaign.sh $python 1 $seed"
        exit 1
    }
    [ "$(date +%s)" -lt "$end" ] || break
    seed=$((seed + 1))
done
