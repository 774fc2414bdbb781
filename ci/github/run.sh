#!/usr/bin/env bash
# What the action does; see action.yml. Signals of the runner go on to firedrill, which takes its impact back before it ends.
set -uo pipefail

mkdir -p "$FIREDRILL_OUT" || exit 2
# A directory of this job alone, so that the run in it is ours.
out=$(mktemp -d "$FIREDRILL_OUT/github-XXXXXXXX") || exit 2

if [ -n "${FIREDRILL_DRILL:-}" ]; then
  arguments=(run --file "$FIREDRILL_FILE" --out "$out")
else
  arguments=(pipeline --file "$FIREDRILL_FILE" --out "$out")
fi
if [ -n "${FIREDRILL_REVISION:-}" ]; then
  arguments+=("--revision=$FIREDRILL_REVISION")
fi
if [ -n "${FIREDRILL_DRILL:-}" ]; then
  arguments+=(-- "$FIREDRILL_DRILL")
fi

"$FIREDRILL_PROGRAM" "${arguments[@]}" &
child=$!
trap 'kill -TERM "$child" 2>/dev/null' INT TERM HUP
# A trapped signal ends wait before the child has ended; then there is more to wait for.
while :; do
  wait "$child"
  code=$?
  kill -0 "$child" 2>/dev/null || break
done
trap - INT TERM HUP

case $code in
  0) outcome=passed ;;
  1) outcome=failed ;;
  2) outcome=usage ;;
  3) outcome=inconclusive ;;
  4) outcome=refused ;;
  5) outcome=not-reverted ;;
  130 | 143) outcome=interrupted ;;
  *) outcome=internal ;;
esac

directory=
for log in "$out"/*/run.jsonl; do
  if [ -f "$log" ]; then directory=$(dirname "$log"); fi
done
{
  printf 'outcome=%s\n' "$outcome"
  printf 'exit-code=%s\n' "$code"
  printf 'directory=%s\n' "$directory"
} >>"${GITHUB_OUTPUT:-/dev/null}"

if [ -n "$directory" ]; then
  if [ -f "$directory/report.md" ]; then
    cat "$directory/report.md" >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
  fi
  "$FIREDRILL_PROGRAM" report "$directory/run.jsonl" --format github
else
  printf '### ❔ firedrill: %s\n\nThere was no run; the log of the job says why.\n' "$outcome" >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
  printf '::error title=firedrill::No run: %s (exit status %s)\n' "$outcome" "$code"
fi
exit "$code"
