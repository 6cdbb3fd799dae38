#!/bin/sh
# Each warning flag of meson.build is really accepted by the compiler: a misspelt one would otherwise be dropped or never noticed.
# test_warning_flags.sh COMPILER FLAG...
set -eu
compiler=$1
shift
for flag in "$@"; do
    # gcc is silent about an unknown -Wno-… unless something else is wrong, so it is asked for the flag without "no-".
    asked=$(printf '%s' "$flag" | sed 's/^-Wno-/-W/')
    # shellcheck disable=SC2086 # the compiler may be "ccache gcc"
    if ! printf 'int main(void) { return 0; }\n' | $compiler -Werror -Wunknown-warning-option "$asked" -x c -fsyntax-only - 2>/dev/null &&
        ! printf 'int main(void) { return 0; }\n' | $compiler -Werror "$asked" -x c -fsyntax-only -; then
        echo "$compiler does not know $flag" >&2
        exit 1
    fi
done
echo "$# flags"
