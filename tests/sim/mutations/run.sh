#!/bin/sh
# Puts one deliberate bug after the other into a copy of the engine and shows that the simulator catches it, and which
# unit test does. Not part of the test run: it takes a minute or two.
#
#   tests/sim/mutations/run.sh [NAME…]      CC, SEEDS (default 2000), JOBS (default 2) from the environment
#
# A bug is a file here: `# what it does`, then `# file PATH`, then lines for sed. One that changes nothing is an error, for
# the code has moved on from under it.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
cc=${CC:-cc}
seeds=${SEEDS:-2000}
jobs=${JOBS:-2}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="-std=gnu17 -D_GNU_SOURCE -O1 -ffp-contract=off -I$work"

for folder in common coordinator/engine tests/sim tests/unit/coordinator/engine; do
    mkdir -p "$work/$folder"
    cp "$root/$folder"/*.[ch] "$work/$folder"
done
cd "$work"

object() { echo "objects/$(echo "$1" | tr / _ | sed 's/\.c$/.o/')"; }
mkdir objects
engine="common/err.c $(ls coordinator/engine/*.c)"
simulator=$(ls tests/sim/*.c)
# Golden data and the program around it are not needed to catch these.
units=$(ls tests/unit/coordinator/engine/test_*.c | grep -v golden)
for source in $engine $simulator $units; do
    echo "$source $(object "$source")"
done | xargs -P "$jobs" -L 1 sh -c "$cc $flags -c \"\$0\" -o \"\$1\""

objects_of() { for source in "$@"; do object "$source"; done; }

# The first unit test that fails, or nothing.
failing_unit() {
    for unit in $units; do
        # shellcheck disable=SC2046,SC2086
        $cc $(object "$unit") $(objects_of $engine) -o unit -lcmocka -lm
        if ! timeout 60 ./unit >unit.log 2>&1; then
            basename "$unit" .c
            return
        fi
    done
}

# What the simulator says of its first failing seed, or nothing.
failing_seed() {
    # shellcheck disable=SC2046,SC2086
    $cc $(objects_of $simulator $engine) -o simulator -lm
    if ! timeout 300 ./simulator --seed 1 --count "$seeds" >sim.log 2>&1; then
        tail -n 1 sim.log
    fi
}

untouched=$(failing_unit)$(failing_seed)
if [ -n "$untouched" ]; then
    echo "without any bug: $untouched"
    exit 1
fi
bad=0
count=0
for mutation in "$here"/*.sed; do
    name=$(basename "$mutation" .sed)
    if [ $# -gt 0 ] && ! echo " $* " | grep -q " $name "; then
        continue
    fi
    count=$((count + 1))
    file=$(sed -n 's/^# file //p' "$mutation")
    cp "$file" kept.c
    sed -f "$mutation" kept.c >"$file"
    if cmp -s kept.c "$file"; then
        echo "$name: changes nothing in $file"
        bad=1
        continue
    fi
    $cc $flags -c "$file" -o "$(object "$file")"
    unit=$(failing_unit)
    seed=$(failing_seed)
    if [ -z "$seed" ]; then
        echo "$name: NOT CAUGHT by the simulator${unit:+, but by $unit}"
        bad=1
    else
        echo "$name: $seed${unit:+ · $unit}"
    fi
    cp kept.c "$file"
    $cc $flags -c "$file" -o "$(object "$file")"
done
echo "$count deliberate bugs"
[ "$count" -gt 0 ] || bad=1
exit $bad
