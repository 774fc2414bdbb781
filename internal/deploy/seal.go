package deploy

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A seal spares the host from reading a release again that nobody has touched since its digests were compared there. It holds the inode, size,
// mode and change time of every file from before that comparison. The change time cannot be set, only the kernel moves it on, with every
// change of content, mode, owner or name; size and modification time alone, which others go by, can be put back by whoever edits a file.
//
// A change within the same tick of the kernel's clock would not show. Hence the order: the times are taken, then the clock is seen to move on,
// and only then the digests are computed. What is changed later has a later time; what was changed before is in the digests.
//
// Whoever is root and turns the clock back to the nanosecond gets by, and so does a disk that forgets. A seal therefore ends after a day.
const sealFor = 24 * time.Hour

// sealList prints what a seal holds, of the files whose names come over standard input, each ended by NUL.
const sealList = `{ xargs -0 stat -c '%i %s %a %.9Z %n' 2>/dev/null | sha256sum; }`

// sealTimes is a part of comparing scripts: it fills $times from the names in $kept/.seal-names, below the directory $tree, or leaves it empty
// where the host cannot tell times finely, or the clock does not move.
const sealTimes = `times=
: >"$kept/.seal-1" 2>/dev/null && case $(stat -c %.9Z "$kept/.seal-1" 2>/dev/null) in
*[!0-9.]*|*.000000000) ;;
[0-9]*.?????????)
 times=$(cd "$tree" && ` + sealList + ` <"$kept/.seal-names")
 : >"$kept/.seal-1"
 n=0
 while : >"$kept/.seal-2"; [ -z "$(find "$kept/.seal-2" -newer "$kept/.seal-1")" ]; do
  n=$((n+1)); [ "$n" -lt 20 ] || { times=; break; }
 done ;;
esac
rm -f "$kept/.seal-1" "$kept/.seal-2"
`

// sealWrite ends a comparing script: $times stands for $release with the digest list $list.
const sealWrite = `[ -z "$times" ] || { printf '%s %s %s %s\n' "$release" "$list" "$(date +%s)" "${times%% *}" >"$kept/.seal-new" && mv -f "$kept/.seal-new" "$kept/.seal"; } 2>/dev/null
`

// sealedScript prints since how many seconds a release is known to be whole and untouched; nothing when it has to be compared.
//
//	$1 where the seal is   $2 directory of the files   $3 release   $4 digest of its digest list   $5 seconds after which a seal ends
const sealedScript = `read -r release list at times 2>/dev/null <"$1/.seal" || exit 0
[ "$release $list" = "$3 $4" ] || exit 0
case $at in ''|*[!0-9]*) exit 0 ;; esac
age=$(($(date +%s) - at))
[ "$age" -ge 0 ] && [ "$age" -lt "$5" ] || exit 0
got=$(cd "$2" && ` + sealList + ` <"$1/.seal-names")
[ "${got%% *}" != "$times" ] || echo "$age"`

// sealed reports whether nobody has touched the release that runs since all of its digests were compared, less than a day ago.
func (t *target) sealed(ctx context.Context, tree, list string) (bool, error) {
	script := sealedScript
	if loose := t.run.request.hooks.sealedScript; loose != "" {
		script = loose
	}
	out, err := t.script(ctx, "", script, t.kept(), tree, t.state.Release, list, strconv.Itoa(int(sealFor.Seconds())))
	if err != nil {
		return false, err
	}
	age, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		return false, nil
	}
	t.compared = fmt.Sprintf("no file was touched since every digest was compared %s ago", time.Duration(age)*time.Second)
	return true, nil
}
