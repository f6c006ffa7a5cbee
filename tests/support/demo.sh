#!/usr/bin/env bash
# demo.sh BIN_DIR: a coordinator, a text group of two ranks and a vision worker on loopback caption three pictures. Ends by
# itself, leaves nothing behind, and fails when anything does.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

remask=$1/remask
pictures=(tests/data/scenes/072.jpg tests/data/scenes/077.png tests/data/scenes/051.jpg)
prompt="Please describe the image in detail."

# A folder of our own, so that a cluster that is running already is not in the way.
XDG_RUNTIME_DIR=$(mktemp -d)
export XDG_RUNTIME_DIR

finish() {
    local status=$?
    trap - EXIT
    if [ $status != 0 ]; then
        "$remask" down >/dev/null 2>&1 || true
        tail -n 20 "$XDG_RUNTIME_DIR"/remask/default.logs/*.log >&2 2>/dev/null || true
    fi
    rm -rf "$XDG_RUNTIME_DIR"
    exit $status
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

echo "== starting a coordinator, a text group of 2 ranks and a vision worker (model: models/demo)"
"$remask" up --model models/demo --groups 1 --tp 2 --vision 1 --port-base 0 --start-timeout 2m --detach
echo
echo "== $prompt"
"$remask" caption --prompt "$prompt" --parallel 1 --timeout 2m --timings "${pictures[@]}"
echo
echo "== the cluster afterwards"
"$remask" status
echo
"$remask" down
