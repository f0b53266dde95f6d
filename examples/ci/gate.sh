#!/usr/bin/env bash
# Gate this tree against a base commit, in any CI: the GitHub Action and the recipes beside this file run it.
#
#     GATE_BASE=origin/main ./gate.sh tests/speed
#
# The words behind it are pytest's.  It ends with pytest's status, and where that is 0 with that of
# `diffspeed verify`: red where a gate fails, where one that was collected reached no verdict, where there
# is none at all, and where the session wrote nothing.  Copy it into your repository; it needs bash, git and the
# Python that has pytest-diffspeed.
#
#   GATE_BASE         the commit to compare with, or `none` for the gates' own limits alone.  Required.
#   GATE_DEVICE       auto (default), cpu, cuda, cuda:N
#   GATE_OUT          the folder of the reports (default: diffspeed-report)
#   GATE_NAME         tells this job's comment from those of others (default: diffspeed)
#   GATE_FAIL_ON      fail (default), or inconclusive: every gate without a clear verdict is red too
#   GATE_STRICT       true (default); false: gates may be left out by -k, skip marks and missing hardware
#   GATE_EXPECT       a list of `diffspeed verify --save`: each gate of it must have passed
#   GATE_COMPILE_CACHE  a folder for what inductor compiles (default: .compile-cache)
#   GATE_STORE        the history, as for --diffspeed-store (default: .diffspeed/history.sqlite)
#   GATE_ANNOTATIONS  false: no annotations on GitHub
#   GATE_LINK         the page of this run, for the comment
#   GATE_ARGS         more words for pytest, in one text with quotes as in a shell
#   PYTHON            the interpreter (default: python)
#
# It writes records.jsonl, report.html, comment.md, outputs.txt and junit.xml into GATE_OUT, and summary.md
# where there is no $GITHUB_STEP_SUMMARY.
set -euo pipefail

python=${PYTHON:-python}
out=${GATE_OUT:-diffspeed-report}
name=${GATE_NAME:-diffspeed}

refuse() {
  echo "gate.sh: $1" >&2
  exit 2
}

[ -n "${GATE_BASE:-}" ] || refuse 'GATE_BASE is not set: name the commit to compare with, or "none"'
[[ $name =~ ^[A-Za-z0-9._-]{1,60}$ ]] || refuse "GATE_NAME takes letters, digits and . _ - only"
case $out in
  *[[:cntrl:]]*) refuse "GATE_OUT is no name of a folder" ;;
esac

words=(--diffspeed --diffspeed-device="${GATE_DEVICE:-auto}")
[ "$GATE_BASE" = none ] || words+=(--diffspeed-base="$GATE_BASE")
case ${GATE_STRICT:-true} in
  true) words+=(--diffspeed-strict) ;;
  false) ;;
  *) refuse "GATE_STRICT is true or false" ;;
esac
case ${GATE_FAIL_ON:-fail} in
  fail) ;;
  inconclusive) words+=(--diffspeed-inconclusive=fail) ;;
  *) refuse "GATE_FAIL_ON is fail or inconclusive" ;;
esac
case ${GATE_ANNOTATIONS:-true} in
  true) ;;
  false) unset GITHUB_ACTIONS ;;
  *) refuse "GATE_ANNOTATIONS is true or false" ;;
esac
[ -z "${GATE_STORE:-}" ] || words+=(--diffspeed-store="$GATE_STORE")

# Neither is part of the tree: git is not to call it changed.
cache=${GATE_COMPILE_CACHE:-.compile-cache}
for folder in "$out" "$cache"; do
  [ -d "$folder" ] || { mkdir -p -- "$folder" && echo '*' >"$folder/.gitignore"; }
done
summary=${GITHUB_STEP_SUMMARY:-$out/summary.md}
# What an earlier run left is no result of this one.
rm -f -- "$out"/{records.jsonl,report.html,comment.md,outputs.txt,summary.md,junit.xml}
words+=(
  --diffspeed-compile-cache="$cache"
  --diffspeed-json="$out/records.jsonl"
  --diffspeed-html="$out/report.html"
  --diffspeed-comment="$out/comment.md"
  --diffspeed-outputs="$out/outputs.txt"
  --diffspeed-markdown="$summary"
  --junitxml="$out/junit.xml"
)
if [ -n "${GATE_ARGS:-}" ]; then
  list=$(mktemp)
  "$python" -c 'import os, shlex, sys
try:
    words = shlex.split(os.environ["GATE_ARGS"])
except ValueError as error:
    sys.exit(f"gate.sh: GATE_ARGS: {error}")
sys.stdout.write("".join(word + "\0" for word in words))' >"$list"
  while IFS= read -r -d '' word; do words+=("$word"); done <"$list"
  rm -f -- "$list"
fi

export DIFFSPEED_CI=1 # pytest without --diffspeed is an error
status=0
"$python" -m pytest "${words[@]}" "$@" || status=$?

# Another process: it sees a session that ended before it could say anything.
if [ "$status" = 0 ]; then
  diffspeed verify "$out/records.jsonl" || status=1
fi
if [ "$status" = 0 ] && [ -n "${GATE_EXPECT:-}" ]; then
  diffspeed verify "$out/records.jsonl" --expect="$GATE_EXPECT" --commit="$(git rev-parse HEAD)" || status=1
fi

[ -f "$out/outputs.txt" ] || echo "verdict=NONE" >"$out/outputs.txt"
found=$(sed -n 's/^verdict=//p' "$out/outputs.txt")
case $status in
  0) verdict=$found ;;
  1) verdict=FAIL ;;
  *) verdict=ERROR ;;
esac
counts=$(sed '/^verdict=/d' "$out/outputs.txt")
printf '%s\n' "verdict=$verdict" "status=$status" "report=$out/report.html" ${counts:+"$counts"} >"$out/outputs.txt"

# A pull request shows this: never green words above a red job.
note=
if [ ! -f "$out/comment.md" ]; then
  note="**$verdict**: pytest ended with status $status before a gate could be reported; the log of the job says why."
  printf '%s\n' "<!-- diffspeed -->" "## diffspeed: no report" >"$out/comment.md"
elif [ "$status" != 0 ] && [ "$found" != FAIL ]; then
  note="**$verdict**: the job is red (status $status) for another reason than the gates below; its log says which."
fi
if [ -n "$note" ]; then
  printf '\n%s\n' "$note" | tee -a "$out/comment.md" >>"$summary"
fi
{
  echo "<!-- diffspeed: $name -->"
  sed 1d "$out/comment.md"
  [ -z "${GATE_LINK:-}" ] || printf '\n[Log and HTML report](%s)\n' "$GATE_LINK"
} >"$out/comment.new"
mv -- "$out/comment.new" "$out/comment.md"

exit "$status"
