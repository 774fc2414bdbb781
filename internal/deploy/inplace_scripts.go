package deploy

// Scripts of the layout in place; $1 is .firedrill and $2 the directory, where nothing else is said. Names are relative to the directory, begin
// with "./" and are ended by NUL, since they may hold anything else.

// inPlaceState tells what stands in place.
const inPlaceState = `[ -f "$1/state" ] && { read -r release revision <"$1/state"; echo "current $release"; echo "revision $revision"; }
exit 0`

// inPlacePrepare removes what is half done, as the holder of the lock may, and tells the rest. Of backups that were being exchanged when somebody
// was killed, one is whole.
const inPlacePrepare = `umask 022
cd "$1" && chmod 700 . && rm -rf staging trash undo/.new state.new || exit 1
if [ -d backup.old ]; then
 if [ -d backup ]; then rm -rf backup.old; else mv backup.old backup; fi || exit 1
fi
for t in tar sha256sum xargs find stat gzip; do command -v "$t" >/dev/null && echo "tool $t"; done
[ -f state ] && echo "digests $(tail -n +2 state | sha256sum)"
was() { r=` + asFound + `; [ ! -f "$1/state" ] || read -r r _ <"$1/state"; echo "$2 $r"; }
for u in undo/*/; do [ -d "$u" ] && was "${u%/}" undo; done
[ -d backup/1 ] && was backup/1 backup
[ -n "$(find "$2" -mindepth 1 -maxdepth 1 ! -name ` + keptInPlace + ` 2>/dev/null | head -n 1)" ] && echo found
` + inPlaceState

// inPlaceKinds tells what is there by each name. $1 tree
const inPlaceKinds = `cd "$1" && xargs -0 sh -c 'for f; do
 if [ -L "$f" ]; then s=$(readlink "$f"; echo .) || exit 1; s=$(printf %s "${s%.}" | sha256sum) && echo "l ${s%% *}"
 elif [ -f "$f" ]; then echo f; elif [ -d "$f" ]; then echo d; elif [ -e "$f" ]; then echo o; else echo -; fi
done' sh`

// inPlaceSums tells mode and digest of each file, and what a seal needs. All of it is on the disk before.
const inPlaceSums = `kept=$1 tree=$2
rm -f "$kept/.seal"
cat >"$kept/.seal-names" || exit 1
sync -f "$kept" 2>/dev/null || sync
` + sealTimes + `cd "$tree" || exit 1
xargs -0 stat -c 'm %a' <"$kept/.seal-names" || exit 1
xargs -0 sha256sum <"$kept/.seal-names" | LC_ALL=C sed -n 's/^\\\{0,1\}\([0-9a-f]\{64\}\) .*/s \1/p'
echo "times ${times%% *}"`

// inPlaceBrought names what deployments brought: by the digest list of what stands in place, or stood there before one that was killed, and by
// what such ones added.
const inPlaceBrought = `cd "$1" || exit 1
state=state
[ -f state ] || state=undo/1/state
[ ! -f "$state" ] || tail -n +2 "$state" | tr '\n\0' '\0\n' | LC_ALL=C sed 's/^[fld] [0-7]* [0-9a-f]* /.\//' | tr '\n\0' '\0\n'
for u in undo/*/; do [ -f "${u}absent" ] && cat "${u}absent"; done
exit 0`

// inPlaceAll names everything.
const inPlaceAll = `cd "$2" && find . -mindepth 1 -path ./` + keptInPlace + ` -prune -o -print0`

// inPlaceTouched names what going back by the backup is going to change, as inPlaceCapture reads it.
const inPlaceTouched = `cd "$1" && for u in backup/*/; do cat "${u}words" || exit 1; done`

// inPlaceCapture keeps what is about to be changed. Names have a letter before them: p is put there, g goes, d is a directory that has to be
// there, the deepest first. Of all that is there a hard link is kept, which costs no reading and keeps owner and times too: what is put there
// takes its name by a rename, so that nobody writes into the file that is kept. Where no links are to be had (another cp(1), another file system
// mounted below, a file of somebody else's) an archive is kept. Of what is not there the name is. The whole of it gets its name, and is on the disk,
// before anything is changed.
const inPlaceCapture = `cd "$1" || exit 1
n=1
while [ -e "undo/$n" ]; do n=$((n+1)); done
new=$1/undo/.new
rm -rf "$new" && mkdir -p "$new/files" && cat >"$new/words" && : >"$new/there" && : >"$new/absent" && : >"$new/dirs" || exit 1
cd "$2" || exit 1
xargs -0 -r sh -c 'new=$0
exec 3>>"$new/there" 4>>"$new/absent" 5>>"$new/dirs"
for w; do f=${w#?}
 case $w in
 d*) [ -d "$f" ] || printf "%s\0" "$f" >&5 ;;
 *) if [ -e "$f" ] || [ -L "$f" ]; then printf "%s\0" "$f" >&3; else case $w in p*) printf "%s\0" "$f" >&4 ;; esac; fi ;;
 esac
done' "$new" <"$new/words" || exit 1
xargs -0 -r cp -a -l --parents -t "$new/files" -- <"$new/there" 2>/dev/null || {
 rm -rf "$new/files"
 tar --null -T "$new/there" -cf "$new/files.tar" || { # which does not say it when the disk is full
  free=$(df -Pk "$new" | { read -r _; read -r _ _ _ k _; echo "$k"; })
  [ "$free" -gt 64 ] || echo "No space left on device"
  exit 1
 }
}
[ "$n" != 1 ] || [ ! -f "$1/state" ] || cp "$1/state" "$new/state" || exit 1
sync -f "$new" 2>/dev/null || sync
mv "$new" "$1/undo/$n" && { sync "$1/undo" 2>/dev/null || sync; }`

// inPlaceMove renames all that is in staging/ to its place, a hundred files of a directory at a time: the shell finds them by itself, since each
// program that it starts costs as much as renaming fifty. What is in place already, as a link to the same file, mv(1) would take for a mistake.
const inPlaceMove = `move() {
 cd "$kept/staging" || return 1
 find . -mindepth 1 -type d -print0 | (cd "$place" && xargs -0 -r mkdir -p --) || return 1
 find . -type d -print0 | LC_ALL=C place=$place xargs -0 sh -c 'for d; do
  n=0
  set --
  for f in "$d"/* "$d"/.[!.]* "$d"/..?*; do
   to=$place/$f
   if [ -L "$f" ]; then
    [ ! -L "$to" ] || [ "$(readlink "$f")" != "$(readlink "$to")" ] || continue
   elif [ -d "$f" ] || [ ! -e "$f" ] || [ "$f" -ef "$to" ]; then continue; fi
   set -- "$@" "$f" && n=$((n+1))
   [ "$n" -lt 100 ] || { mv -f -- "$@" "$place/$d/" || exit 255; n=0; set --; }
  done
  [ "$n" = 0 ] || mv -f -- "$@" "$place/$d/" || exit 255
 done' sh || return 1
 cd "$kept" && rm -rf staging
}
`

// inPlacePut exchanges the files, and removes the names that come over standard input.
const inPlacePut = `kept=$1 place=$2
umask 022
` + inPlaceMove + `rm -f "$kept/state" "$kept/.seal" && move || exit 1
cd "$place" && xargs -0 -r rm -rf --`

// inPlaceEmptied removes the directories that are empty now, of the names that come over standard input, the deepest first. $1 directory
const inPlaceEmptied = `cd "$1" && { xargs -0 -r rmdir -- 2>/dev/null; exit 0; }`

// inPlaceSeal seals what was compared. $2 release   $3 digest of its digest list   $4 times
const inPlaceSeal = `kept=$1 release=$2 list=$3 times=$4
` + sealWrite

// inPlaceRecord writes down what stands in place, after inPlaceSums found it there, and seals it. When a power cut takes the writing back, there
// still is the undo.
const inPlaceRecord = `cd "$1" && cat >state.new && mv state.new state || exit 1
` + inPlaceSeal

// inPlaceBack goes back by $3, "undo" or "backup", the last change first. It may be cut off anywhere and begin again: nothing of $3 is removed
// before all is in place.
const inPlaceBack = `kept=$1 place=$2
umask 022
` + inPlaceMove + `cd "$kept" || exit 1
[ -d "$3/1" ] || { echo "there is nothing to go back by"; exit 1; }
rm -f state .seal
n=1
while [ -d "$3/$((n+1))" ]; do n=$((n+1)); done
while [ "$n" -gt 0 ]; do
 u=$kept/$3/$n
 rm -rf staging && mkdir staging || exit 1
 if [ ! -d "$u/files" ]; then
  tar -x -p -f "$u/files.tar" -C staging || exit 1
 elif ! cp -a -l "$u/files/." staging/ 2>/dev/null; then
  rm -rf staging && mkdir staging && cp -a "$u/files/." staging/ || exit 1
 fi
 cd "$place" && xargs -0 -r rm -rf -- <"$u/absent" || exit 1
 xargs -0 -r rmdir -- <"$u/dirs" 2>/dev/null
 move || exit 1
 n=$((n-1))
done
sync -f "$place" 2>/dev/null || sync
[ ! -f "$3/1/state" ] || { cp "$3/1/state" state.new && mv state.new state; } || exit 1
if [ "$3" = undo ]; then mv undo trash && rm -rf trash; fi || exit 1
` + inPlaceState

// inPlaceSettle makes the undo the backup. $2 line for the log
const inPlaceSettle = `cd "$1" && printf '%s\n' "$2" >>revisions.log || exit 1
[ -d undo/1 ] || exit 0
rm -rf backup.old
[ ! -d backup ] || mv backup backup.old || exit 1
mv undo backup && rm -rf backup.old`
