package attack

import (
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"strconv"
	"strings"
)

// startedBy says for people who started this process: the user whose rights it has, the one who came by sudo, and the address that an SSH
// session comes from. What cannot be found out is left out. environment is os.Getenv, or what stands for it.
func startedBy(environment func(string) string) string {
	uid := strconv.Itoa(os.Geteuid())
	by := "user " + uid
	if known, err := user.LookupId(uid); err == nil {
		by = "user " + known.Username
	}
	// Names from the environment are for people only: nothing is decided by them, and they cannot end a line.
	if sudo := environment("SUDO_USER"); sudo != "" && os.Geteuid() == 0 {
		by = fmt.Sprintf("user %s, by sudo as %s", strings.Trim(strconv.Quote(sudo), `"`), strings.TrimPrefix(by, "user "))
	}
	if from, err := netip.ParseAddr(strings.SplitN(environment("SSH_CONNECTION")+" ", " ", 2)[0]); err == nil {
		by += ", from " + from.String()
	}
	return by
}
