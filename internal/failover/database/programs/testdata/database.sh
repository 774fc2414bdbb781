#!/bin/sh
# A database of files, for tests: `database.sh status|write|fence|promote|rebuild|off|boot|add|rows [HOST [FROM]]` in a directory with a directory
# for each server. LIE names a program that says it is done and does nothing, or that does it badly.
set -eu
host=${2:-} from=${3:-}
lie=$(cat lie 2>/dev/null || true)
other() { if [ "$1" = db-a ]; then echo db-b; else echo db-a; fi; }
role() { if [ -e "$1/off" ]; then echo down; elif [ -e "$1/primary" ]; then echo primary; else echo standby; fi; }
copy() { cp "$1/rows" "$2/rows"; cp "$1/timeline" "$2/timeline"; }
case $1 in
init)
  mkdir -p db-a db-b
  touch db-a/primary db-b/follows
  for s in db-a db-b; do echo 1 >$s/timeline; : >$s/rows; done
  ;;
status)
  sep=
  printf '{"members": ['
  for s in db-a db-b; do
    follows=false
    if [ -e $s/follows ]; then follows=true; fi
    if [ -e $s/primary ]; then follows=false; fi
    printf '%s{"host": "%s", "role": "%s"' "$sep" $s "$(role $s)"
    if [ "$(role $s)" != down ]; then printf ', "timeline": %s, "position": %s, "streaming": %s' "$(cat $s/timeline)" $(($(wc -l <$s/rows) + 1)) $follows; fi
    printf '}'
    sep=', '
  done
  printf ']}\n'
  ;;
write)
  if [ "$lie" = write ]; then exit 0; fi
  case $(role "$host") in
  primary) ;;
  standby) exit 10 ;;
  down) echo "no route" >&2; exit 1 ;;
  esac
  ;;
fence)
  if [ "$lie" = fence ]; then echo "stopped, on my word"; exit 0; fi
  rm -f "$host/primary" "$(other "$host")/follows"
  echo "its files are taken away"
  ;;
promote)
  if [ "$lie" = promote ]; then exit 0; fi
  if [ -n "${FIREDRILL_PLANNED:-}" ]; then copy "$from" "$host"; fi
  if [ "$lie" = lose ]; then sed -i '$d' "$host/rows"; fi
  touch "$host/primary"
  rm -f "$host/follows"
  echo $(($(cat "$host/timeline") + 1)) >"$host/timeline"
  if [ "$lie" = unfence ]; then touch "$from/primary"; fi
  ;;
rebuild)
  if [ "$lie" = rebuild ]; then exit 0; fi
  rm -f "$host/primary"
  copy "$from" "$host"
  touch "$host/follows"
  ;;
off) touch "$host/off"; rm -f "$(other "$host")/follows" ;;
boot)
  rm -f "$host/off"
  if [ "$lie" = boot ]; then touch "$host/primary"; fi
  ;;
add)
  for s in db-a db-b; do
    if [ "$(role $s)" = primary ]; then
      echo row >>$s/rows
      if [ -e "$(other $s)/follows" ]; then echo row >>"$(other $s)/rows"; fi
      exit 0
    fi
  done
  exit 1
  ;;
rows)
  for s in db-a db-b; do if [ "$(role $s)" = primary ]; then wc -l <$s/rows; exit 0; fi; done
  exit 1
  ;;
esac
