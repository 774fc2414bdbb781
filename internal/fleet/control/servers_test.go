package control

import (
	"path/filepath"
	"testing"
	"time"
)

// A server that is alone tells of itself what one of several does.
func TestAServerThatIsAloneTellsOfItself(t *testing.T) {
	t.Parallel()
	before := time.Now()
	c := openWith(t, filepath.Join(t.TempDir(), "fleet"), func(*Options) {})
	t.Cleanup(func() { shut(t, c) })
	all := c.Servers()
	if len(all) != 1 || all[0].Name != c.options.Name || all[0].Since.Before(before) || all[0].Since.After(time.Now()) || !all[0].Leads {
		t.Errorf("%+v", all)
	}
}
