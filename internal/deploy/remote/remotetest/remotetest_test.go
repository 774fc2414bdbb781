package remotetest

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

func TestContractOnOurOwnServer(t *testing.T) { Run(t, Serve) }

func TestContractOnOpenSSH(t *testing.T) { Run(t, OpenSSH) }
