#!/usr/bin/env bash
# The main job, end to end, on this machine: a coordinator, two main workers and two verifiers as real processes train
# gpt2-tiny on text that this machine has, once without leaps and once with them, and a summary compares the two.
#
#   make demo                  the C++ standard library's headers as text; a few minutes on two cores
#   make demo TEXT=~/notes     your own text: a file or a folder, UTF-8
#   make demo STEPS=1200       a longer run (at least 100)
#
# Everything that is written, ledger, checkpoints, metrics at the end and logs, lies in one folder, named at the end.
# BUILD=build/dev takes another build than build/release.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

build=${BUILD:-build/release}
text=${TEXT:-/usr/include/c++}
steps=${STEPS:-600}

die() { echo "demo: $*" >&2; exit 1; }
leapctl=$build/leapctl/leapctl
[ -x "$leapctl" ] || leapctl=$build/bin/leapctl
[ -x "$leapctl" ] || die "there is no leapctl in $build; run: make demo"
[ -e "$text" ] || die "TEXT=$text: there is no such file or folder"
case $steps in '' | *[!0-9]*) die "STEPS=$steps: expected a whole number" ;; esac
[ "$steps" -ge 100 ] || die "STEPS=$steps: at least 100, or there is nothing to leap from"

state=$(mktemp -d "${TMPDIR:-/tmp}/leap-demo-XXXXXX")
# The text's path as a quoted YAML scalar, whatever is in it.
quoted=$(python3 -c 'import json, os, sys; print(json.dumps(os.path.abspath(sys.argv[1])))' "$text")
awk -v text="$quoted" -v steps="$steps" '
  /^    paths:/ { print "    paths: [" text "]"; next }
  /^    steps:/ { print "    steps: " steps; next }
  { print }' examples/demo.yaml >"$state/job.yaml"

echo "demo: text from $text, $steps steps, first without leaps, then with them"
"$leapctl" run "$state/job.yaml" --workers 2 --verifiers 2 --with-baseline --state-dir "$state"
