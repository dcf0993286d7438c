#!/bin/sh
# check.sh SIGNAL-NUMBER EXTENDED-REGEX PROGRAM...: the program must write one line on standard
# error, which the whole expression matches, and then be killed by the signal. If EXTENDED-REGEX has
# several lines, the program must write as many, each of which is matched.
signal=$1 expected=$2
shift 2
ulimit -c 0
said=$(mktemp) || exit 99
trap 'rm -f "$said"' EXIT
(exec "$@" 2>"$said")  # so that the shell's own message about the signal is not in it
status=$?
if [ "$status" -ne $((128 + signal)) ]; then
  echo "ended with status $status instead of by signal $signal; it said:"
  cat "$said"
  exit 1
fi
lines=$([ -n "$expected" ] && printf '%s\n' "$expected" | wc -l || echo 0)
if [ "$(wc -l <"$said")" -ne "$lines" ] ||
  { [ -n "$expected" ] && [ "$(grep -cxE "$expected" "$said")" -ne "$lines" ]; }; then
  echo "expected: $expected"
  echo "it said:"
  cat "$said"
  exit 1
fi
