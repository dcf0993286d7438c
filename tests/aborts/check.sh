#!/bin/sh
# check.sh SIGNAL-NUMBER EXTENDED-REGEX PROGRAM...: the program must write one line, which the expression matches
# from end to end, on standard error, and then die of the signal.
signal=$1 expected=$2
shift 2
ulimit -c 0
said=$(mktemp) || exit 99
trap 'rm -f "$said"' EXIT
(exec "$@" 2>"$said")  # so that what the shell says of the signal is not among it
status=$?
if [ "$status" -ne $((128 + signal)) ]; then
  echo "ended with status $status instead of by signal $signal; it said:"
  cat "$said"
  exit 1
fi
if [ "$(wc -l <"$said")" -ne "$([ -n "$expected" ] && echo 1 || echo 0)" ] ||
  { [ -n "$expected" ] && ! grep -qxE "$expected" "$said"; }; then
  echo "expected: $expected"
  echo "it said:"
  cat "$said"
  exit 1
fi
