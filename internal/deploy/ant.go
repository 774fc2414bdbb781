package deploy

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// placed gives the files the paths that they have in a release: without the prefix, or all in one directory.
func (r *run) placed(files []file) ([]file, error) {
	source := r.request.Deploy.Source
	prefix := strings.TrimSuffix(source.RemovePrefix, "/")
	files = slices.DeleteFunc(slices.Clone(files), func(f file) bool { return f.dir && (source.Flatten || f.path == prefix) })
	if prefix == "" && !source.Flatten {
		return files, nil
	}
	all := make([]file, 0, len(files))
	taken := make(map[string]string)
	for _, f := range files {
		if f.link != "" {
			return nil, fmt.Errorf("%s is a link, and would lead elsewhere when it is moved: leave it out, or remove_prefix and flatten", f.path)
		}
		f.origin = f.from()
		switch below, ok := strings.CutPrefix(f.path, prefix+"/"); {
		case source.Flatten:
			f.path = path.Base(f.path)
		case !ok:
			return nil, fmt.Errorf("%s is not in %s, which remove_prefix asks of every file", f.path, prefix)
		default:
			f.path = below
		}
		if other, twice := taken[f.path]; twice {
			return nil, fmt.Errorf("%s and %s would both be published as %s", other, f.origin, f.path)
		}
		if r.ours(f.path) {
			return nil, fmt.Errorf("%s would be published as %s, which is ours", f.origin, f.path)
		}
		taken[f.path] = f.origin
		all = append(all, f)
	}
	return all, nil
}

// withShared replaces what outlives releases by links into shared/; what the source holds below such a path gives way.
func withShared(files []file, shared []string) []file {
	if len(shared) == 0 {
		return files
	}
	files = withoutShared(files, shared)
	for _, name := range shared {
		clean := strings.TrimSuffix(name, "/")
		up := strings.Repeat("../", strings.Count(clean, "/")+2) // out of the release, out of releases/
		files = append(files, file{path: clean, mode: 0o777, link: up + "shared/" + clean})
	}
	return files
}

// withoutShared leaves out what lies below a shared path.
func withoutShared(files []file, shared []string) []file {
	return slices.DeleteFunc(slices.Clone(files), func(f file) bool {
		return slices.ContainsFunc(shared, func(name string) bool { return isBelow(f.path, strings.TrimSuffix(name, "/")) })
	})
}

// isBelow reports whether a path is dir or leads below it.
func isBelow(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }

// sharedScript makes the directories that outlive releases, and names the files that are not there: a link to nothing is no configuration.
//
//	$1 where they are   $2... paths below it, directories with a slash at the end
const sharedScript = `cd "$1" || exit 1
shift
for p; do
 case $p in
 */) mkdir -p "$p" || exit 1 ;;
 *) [ -f "$p" ] || printf '%s\n' "$p" ;;
 esac
done`
