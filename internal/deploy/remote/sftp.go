package remote

import (
	"context"
	"errors"
	"fmt"

	"github.com/pkg/sftp"

	"firedrill/internal/drill"
)

// ErrNoSFTP says that the host does not offer the SFTP subsystem.
var ErrNoSFTP = errors.New("the host offers no SFTP subsystem")

// SFTP opens an SFTP session; the caller closes it. When ctx ends, it is closed, and whatever waits on it returns. A host without the
// subsystem is drill.Unsupported and errors.Is ErrNoSFTP.
func (c *Client) SFTP(ctx context.Context) (*sftp.Client, error) {
	s, err := c.conn.NewSession()
	if err != nil {
		return nil, c.fail(ctx, "open SFTP", err)
	}
	in, err := s.StdinPipe()
	if err != nil {
		return nil, c.fail(ctx, "open SFTP", errors.Join(err, s.Close()))
	}
	out, err := s.StdoutPipe()
	if err != nil {
		return nil, c.fail(ctx, "open SFTP", errors.Join(err, s.Close()))
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	if err := s.RequestSubsystem("sftp"); err != nil {
		stop()
		_ = s.Close()
		if c.isLost() {
			return nil, c.fail(ctx, "open SFTP", err)
		}
		return nil, &drill.Error{Op: "open SFTP", Host: c.host, Kind: drill.Unsupported, Err: fmt.Errorf("%w: %w", ErrNoSFTP, err),
			Hint: "Allow it in sshd_config: Subsystem sftp internal-sftp"}
	}
	// Concurrent writes may leave holes when an upload is cut off; whoever uploads verifies sizes or digests before use.
	client, err := sftp.NewClientPipe(out, in, sftp.UseConcurrentWrites(true), sftp.UseConcurrentReads(true))
	if err != nil {
		stop()
		return nil, c.fail(ctx, "open SFTP", errors.Join(err, s.Close()))
	}
	return client, nil
}
