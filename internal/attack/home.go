package attack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack/containers"
	"firedrill/internal/attack/procs"
	"firedrill/internal/drill"
)

// An attack on a container runs in the container's network namespace, all of it: the process enters there and starts its own program again,
// as the same process. Whatever it opens from then on is the container's: tables, resolvers, canaries. Only its hold on the GUID is taken at
// home, the host's namespace, so that status, halt and the host's policy see it.
//
//	Start ──▶ find the container ──▶ enter its network, keep a descriptor of ours ──exec──▶ Start ──▶ there already: go on

// envHome holds the descriptor of the namespace that we came from, and the container's first process: "3:4711".
const envHome = "FIREDRILL_HOME_NETWORK"

// home returns what envHome holds. ok is false for a process that never left.
func home() (network, container int, ok bool) {
	first, second, found := strings.Cut(os.Getenv(envHome), ":")
	network, err1 := strconv.Atoi(first)
	container, err2 := strconv.Atoi(second)
	return network, container, found && err1 == nil && err2 == nil
}

// atHome runs f in the network namespace that we came from, on a thread that is thrown away.
func atHome(f func() error) error {
	network, _, away := home()
	if !away {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its goroutine
		if err := unix.Setns(network, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("attack: go back to the host's network: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// dialHome connects to a name that belongs to the host's network namespace.
func dialHome(ctx context.Context, name string) (conn net.Conn, err error) {
	err = atHome(func() error {
		conn, err = (&net.Dialer{Timeout: askTimeout}).DialContext(ctx, "unix", name)
		return err
	})
	return conn, err
}

// resolverFile returns the path of a file that says how names are resolved: the container's own for an attack on one.
func resolverFile(path string) string {
	if _, container, away := home(); away {
		return fmt.Sprintf("/proc/%d/root%s", container, path)
	}
	return path
}

// enter makes an attack on a container run in the container's network. It returns nil when there is no container or we are there already;
// else this process becomes the same program there, and enter does not return.
func (i Invocation) enter(ctx context.Context) (*containers.Container, error) {
	name := i.Flags.Text("container", "")
	if name == "" || i.StayOutside {
		return nil, nil
	}
	found, err := FindContainer(ctx, i.describe().Name, name)
	if err != nil {
		return nil, err
	}
	op := "attack " + i.describe().Name
	network, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", found.Init.PID), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, cannotEnter(op, found, err)
	}
	defer unix.Close(network)
	if _, err := procs.Find(found.Init); err != nil { // the number may be another's by now
		return nil, cannotEnter(op, found, err)
	}
	there, err := inNetwork(network)
	_, _, away := home()
	switch {
	case err != nil:
		return nil, cannotEnter(op, found, err)
	case there && away:
		return &found, nil
	case there:
		return nil, &drill.Error{Op: op, Kind: drill.Refused, Err: fmt.Errorf("%s shares the network of this host, so the whole host would be hit", found),
			Hint: "narrow it with --cgroup or --user, or leave --container out if you mean the host"}
	case away:
		return nil, &drill.Error{Op: op, Kind: drill.Failed, Err: fmt.Errorf("%s is another one than a moment ago", found), Hint: "try again"}
	}
	return nil, cannotEnter(op, found, become(network, found.Init.PID))
}

func cannotEnter(op string, c fmt.Stringer, err error) error {
	e := &drill.Error{Op: op, Kind: drill.Failed, Err: fmt.Errorf("enter the network of %s: %w", c, err)}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		e.Kind, e.Hint = drill.Unsupported, "run it as root: sudo firedrill attack ..."
	}
	return e
}

// inNetwork reports whether this process is in a network namespace.
func inNetwork(network int) (bool, error) {
	var ours, theirs unix.Stat_t
	if err := errors.Join(unix.Stat("/proc/self/ns/net", &ours), unix.Fstat(network, &theirs)); err != nil {
		return false, err
	}
	return ours.Ino == theirs.Ino && ours.Dev == theirs.Dev, nil
}

// become starts this program again, as this process, in a network namespace. It returns only an error.
func become(network, container int) error {
	runtime.LockOSThread() // the thread that executes a program is the one whose namespace the program has
	defer runtime.UnlockOSThread()
	ours, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY, 0) // handed on, so not closed
	if err != nil {
		return err
	}
	defer unix.Close(ours)
	if err := unix.Setns(network, unix.CLONE_NEWNET); err != nil {
		return err
	}
	err = unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), fmt.Sprintf("%s=%d:%d", envHome, ours, container)))
	return errors.Join(err, unix.Setns(ours, unix.CLONE_NEWNET))
}

// FindContainer returns the container that a flag names, or an error with the cure.
func FindContainer(ctx context.Context, kind, name string) (containers.Container, error) {
	if p, err := readPart(os.Getenv); err == nil && p != nil && p.Pod.Sandbox == name {
		return p.Pod.Container(), nil // who leads has asked
	}
	found, err := containers.Finder{}.Find(ctx, name)
	switch {
	case err == nil:
		return found, nil
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return found, &drill.Error{Op: "attack " + kind, Kind: drill.Unsupported, Err: err, Hint: "run it as root: sudo firedrill attack ..."}
	}
	return found, Refuse(kind, "see: docker ps, podman ps, or ctr tasks ls; an ID or a part of one works without the runtime", "--container=%s: %w", name, err)
}

// watchContainer returns an error when the container has ended, nil when ctx has.
func watchContainer(ctx context.Context, c containers.Container) error {
	handle, err := procs.Open(c.Init)
	if err == nil {
		defer unix.Close(handle)
		err = waitEnd(ctx, handle)
	}
	if ctx.Err() != nil {
		return nil
	}
	return &drill.Error{Op: "attack", Kind: drill.Failed, Err: errors.Join(fmt.Errorf("%s has ended", c), err)}
}

// waitEnd waits until the process of a pidfd has ended, or ctx has.
func waitEnd(ctx context.Context, handle int) error {
	watched, err := newWaker(ctx)
	if err != nil {
		return err
	}
	defer watched.close()
	fds := []unix.PollFd{{Fd: int32(handle), Events: unix.POLLIN}, watched.ended}
	for ctx.Err() == nil {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if fds[0].Revents != 0 {
			return nil
		}
	}
	return nil
}
