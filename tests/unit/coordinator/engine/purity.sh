#!/bin/sh
# The engine has no clock, socket, thread, allocation, file or randomness of its own: it calls nothing outside itself but
# the names below. An allowlist, so that whatever is new has to be argued for here.
#
#   purity.sh LIBRARY…      static libraries that make up the engine
set -eu

allowed='
memcmp memcpy memmove memset strlen  bytes in the memory it was given
snprintf vsnprintf                   trace lines, into memory; integers and strings only, so no allocation, no locale
rmk_fail rmk_err_name                sentences, into memory (common/err.c)
rmk_assert_failed                    the end of the process, when an invariant is broken
_GLOBAL_OFFSET_TABLE_ __stack_chk_fail  the compiler and linker own these
__memcpy_chk __memset_chk __snprintf_chk __vsnprintf_chk  the same with fortified headers
'

defined=$(nm --defined-only "$@" | awk 'NF == 3 { print $3 }' | sort -u)
foreign=$(nm --undefined-only "$@" | awk '$1 == "U" { print $2 }' | sort -u)
bad=0
count=0
for name in $foreign; do
    count=$((count + 1))
    case "$name" in
    __asan_* | __ubsan_* | __tsan_* | __gcov_*) continue ;; # instrumented builds
    esac
    if printf '%s\n' "$defined" | grep -qx "$name"; then
        continue
    fi
    if ! printf '%s\n' "$allowed" | sed 's/   *.*//' | tr ' ' '\n' | grep -qx "$name"; then
        echo "the engine calls $name, which is not on the list in $0"
        bad=1
    fi
done
if [ "$count" -eq 0 ]; then
    echo "no symbols in $*: nothing was checked"
    bad=1
fi
exit $bad
