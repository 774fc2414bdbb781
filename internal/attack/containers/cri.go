//go:build !attackpart

package containers

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"

	"firedrill/internal/attack/procs"
)

// What a kubelet asks of a runtime is the Container Runtime Interface, runtime.v1 of k8s.io/cri-api: gRPC on a Unix socket. Four of its
// questions are needed here. The numbers below are those of its fields.
const (
	askListPods      = "ListPodSandbox"
	askPodStatus     = "PodSandboxStatus"
	askListContained = "ListContainers"
	askContained     = "ContainerStatus"
	askVersion       = "Version"
)

// Find returns the pods that are ready here and meant, sorted by namespace and name. The error is a *NoPodError when there is none, and wraps
// ErrNoRuntime when nobody answers for pods.
func (f PodFinder) Find(ctx context.Context, s PodSelector) ([]Pod, error) {
	selector, err := ParseSelector(s.Labels)
	if err != nil {
		return nil, err
	}
	listed, err := f.list(ctx)
	if err != nil {
		return nil, err
	}
	none := &NoPodError{Selector: s, Ready: len(listed)}
	var pods []Pod
	for _, sandbox := range listed {
		if s.Namespace != AnyNamespace && sandbox.Namespace != s.Namespace {
			continue
		}
		none.Within++
		if !selector.Matches(sandbox.labels) {
			continue
		}
		if sandbox.Init, err = f.process(ctx, sandbox); err != nil {
			return nil, fmt.Errorf("%s: %w", sandbox.Pod, err)
		}
		pods = append(pods, sandbox.Pod)
	}
	if len(pods) == 0 {
		return nil, none
	}
	return pods, nil
}

// Runtimes returns who answers for pods here, as "containerd 1.7.1 on /run/containerd/containerd.sock". The error wraps ErrNoRuntime when
// nobody does.
func (f PodFinder) Runtimes(ctx context.Context) ([]string, error) {
	var names []string
	err := f.each(ctx, func(r *criRuntime) error {
		names = append(names, fmt.Sprintf("%s %s on %s", r.name, r.version, r.socket))
		return nil
	})
	return names, err
}

// sandbox is a pod as a runtime lists it.
type sandbox struct {
	Pod
	attempt uint64
	labels  map[string]string
	runtime *criRuntime
}

// list returns all pods that are ready here. Of a pod whose sandbox was made anew only the last one counts.
func (f PodFinder) list(ctx context.Context) ([]sandbox, error) {
	latest := map[string]sandbox{}
	err := f.each(ctx, func(r *criRuntime) error {
		// Ready is state 0, and the filter says it by a state that is there: field 2 of the filter, empty.
		answer, err := r.ask(ctx, askListPods, message(1, message(2, nil)))
		if err != nil {
			return err
		}
		return eachField(answer, func(number protowire.Number, value []byte, _ uint64) error {
			if number != 1 {
				return nil
			}
			one, ready, err := readSandbox(value)
			if err != nil || !ready {
				return err
			}
			one.runtime, one.Runtime = r, r.name
			if before, known := latest[one.key()]; !known || one.attempt > before.attempt {
				latest[one.key()] = one
			}
			return nil
		})
	})
	all := make([]sandbox, 0, len(latest))
	for _, one := range latest {
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b sandbox) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Sandbox, b.Sandbox))
	})
	return all, err
}

func (s sandbox) key() string { return s.Namespace + "/" + s.Name + "/" + s.UID }

func readSandbox(text []byte) (s sandbox, ready bool, err error) {
	s.labels, ready = map[string]string{}, true
	err = eachField(text, func(number protowire.Number, value []byte, varint uint64) error {
		switch number {
		case 1:
			s.Sandbox = string(value)
		case 2:
			return eachField(value, func(number protowire.Number, value []byte, varint uint64) error {
				switch number {
				case 1:
					s.Name = string(value)
				case 2:
					s.UID = string(value)
				case 3:
					s.Namespace = string(value)
				case 4:
					s.attempt = varint
				}
				return nil
			})
		case 3:
			ready = varint == 0
		case 5:
			key, label, err := readPair(value)
			s.labels[key] = label
			return err
		}
		return nil
	})
	if err == nil && !names().MatchString(s.Sandbox) {
		err = fmt.Errorf("%q is no ID of a sandbox", s.Sandbox)
	}
	return s, ready, err
}

// process finds a process in the pod's network: the sandbox's own, as the runtime tells it or as it is found without; else that of a container,
// for some runtimes keep no process for a sandbox.
func (f PodFinder) process(ctx context.Context, s sandbox) (procs.ID, error) {
	found, err := f.processOf(ctx, s.runtime, askPodStatus, s.Sandbox)
	if err == nil {
		return found, nil
	}
	errs := []error{err}
	answer, err := s.runtime.ask(ctx, askListContained, message(1, slices.Concat(message(2, number(1, 1)), message(3, []byte(s.Sandbox)))))
	if err != nil {
		return procs.ID{}, errors.Join(append(errs, err)...)
	}
	var ids []string
	err = eachField(answer, func(number protowire.Number, value []byte, _ uint64) error {
		if number != 1 {
			return nil
		}
		return eachField(value, func(number protowire.Number, value []byte, _ uint64) error {
			if number == 1 {
				ids = append(ids, string(value))
			}
			return nil
		})
	})
	errs = append(errs, err)
	for _, id := range ids {
		if found, err = f.processOf(ctx, s.runtime, askContained, id); err == nil {
			return found, nil
		}
		errs = append(errs, err)
	}
	return procs.ID{}, fmt.Errorf("no process of it is known: %w", errors.Join(errs...))
}

// processOf asks for the process of a sandbox or container: field 1 is its ID, field 2 asks for all that there is, and in field 2 of the
// answer is, by name, what the interface does not have. containerd and CRI-O write the process there, as JSON; others are asked as
// engines are.
func (f PodFinder) processOf(ctx context.Context, r *criRuntime, question, id string) (procs.ID, error) {
	answer, err := r.ask(ctx, question, slices.Concat(message(1, []byte(id)), number(2, 1)))
	if err != nil {
		return procs.ID{}, err
	}
	pid := 0
	err = eachField(answer, func(number protowire.Number, value []byte, _ uint64) error {
		if number != 2 {
			return nil
		}
		key, text, err := readPair(value)
		var info struct{ Pid int }
		if err == nil && key == "info" && json.Unmarshal([]byte(text), &info) == nil {
			pid = info.Pid
		}
		return err
	})
	if err != nil {
		return procs.ID{}, fmt.Errorf("what %s says is not understood: %w", r.socket, err)
	}
	if pid > 0 {
		p, err := procs.Stat(pid)
		return p.ID, err
	}
	c, err := f.Finder.Find(ctx, id)
	return c.Init, err
}

// each calls with for every runtime that answers for pods here.
func (f PodFinder) each(ctx context.Context, with func(*criRuntime) error) error {
	sockets, named := f.Sockets, len(f.Sockets) > 0
	if endpoint := os.Getenv(EndpointVariable); !named && endpoint != "" {
		path, err := unixPath(endpoint)
		if err != nil {
			return err
		}
		sockets, named = []string{path}, true
	}
	if !named {
		sockets = podSockets
	}
	var silent []error
	answered := 0
	for _, socket := range sockets {
		r, err := openRuntime(ctx, socket)
		switch {
		case err == nil:
			err = with(r)
			r.close()
			if err != nil {
				return fmt.Errorf("ask the runtime at %s: %w", socket, err)
			}
			answered++
		case named, !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, errUnimplemented):
			silent = append(silent, fmt.Errorf("%s: %w", socket, err))
		default:
			silent = append(silent, nil) // no such runtime, or one that runs containers but no pods
		}
	}
	if err := errors.Join(silent...); err != nil {
		return fmt.Errorf("%w: %w", ErrNoRuntime, err)
	}
	if answered == 0 {
		return fmt.Errorf("%w: none of %s", ErrNoRuntime, strings.Join(sockets, ", "))
	}
	return nil
}

func message(field protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), content)
}

func number(field protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, field, protowire.VarintType), value)
}

// eachField calls with for each field of a message: with its content where it has a length, else with its number.
func eachField(text []byte, with func(field protowire.Number, value []byte, varint uint64) error) error {
	for len(text) > 0 {
		field, kind, n := protowire.ConsumeTag(text)
		if n < 0 {
			return protowire.ParseError(n)
		}
		text = text[n:]
		var value []byte
		var varint uint64
		switch kind {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(text)
		case protowire.VarintType:
			varint, n = protowire.ConsumeVarint(text)
		default:
			n = protowire.ConsumeFieldValue(field, kind, text)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := with(field, value, varint); err != nil {
			return err
		}
		text = text[n:]
	}
	return nil
}

// readPair reads an entry of a map from text to text.
func readPair(entry []byte) (key, value string, err error) {
	err = eachField(entry, func(number protowire.Number, text []byte, _ uint64) error {
		switch number {
		case 1:
			key = string(text)
		case 2:
			value = string(text)
		}
		return nil
	})
	return key, value, err
}
