#!/usr/bin/env bash
# Formats every C++ file that git knows or would add, with the pinned clang-format (scripts/setup.sh).
#
#   scripts/format.sh [PATH...]           rewrites them, or those under PATH
#   scripts/format.sh --check [PATH...]   changes nothing; names the files that are not formatted and fails
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

formatter=.deps/tools/clang-format
[ -x $formatter ] || { echo "format: $formatter is missing; run scripts/setup.sh" >&2; exit 1; }
mode=(-i)
if [ "${1:-}" = --check ]; then mode=(--dry-run --Werror); shift; fi

# Two processes, a few files each: the machine this is made for has two cores.
if ! git ls-files -zco --exclude-standard -- "$@" | grep -zE '\.(h|cc|cu|cuh)$' |
  while IFS= read -r -d '' file; do if [ -f "$file" ]; then printf '%s\0' "$file"; fi; done |
  xargs -0 -r -P 2 -n 20 $formatter "${mode[@]}" 2>.deps/format.log; then
  grep -oE '^[^ :]+:[0-9]+' .deps/format.log | sort -u -t: -k1,1 >&2 || cat .deps/format.log >&2
  echo "format: the files above are not formatted (or could not be read); run: make format" >&2
  exit 1
fi
