package critest

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Pod is one that the runtime knows.
type Pod struct {
	Namespace, Name, UID string
	Sandbox              string
	Labels               map[string]string
	Attempt              uint32
	NotReady             bool
	PID                  int            // of the sandbox; 0 where the runtime does not tell
	Containers           map[string]int // IDs of those that run, and their processes; 0 where the runtime does not tell
}

// Server is a runtime.
type Server struct {
	cri.UnimplementedRuntimeServiceServer

	Socket string

	mu       sync.Mutex // guards the fields below
	pods     []Pod
	listFail error
}

// Serve makes a runtime with pods that ends with the test.
func Serve(tb testing.TB, pods ...Pod) *Server {
	tb.Helper()
	s := &Server{Socket: filepath.Join(tb.TempDir(), "cri.sock"), pods: pods}
	listener, err := net.Listen("unix", s.Socket)
	if err != nil {
		tb.Fatal(err)
	}
	server := grpc.NewServer()
	cri.RegisterRuntimeServiceServer(server, s)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	tb.Cleanup(func() { server.Stop(); <-served })
	return s
}

// Set changes what pods there are.
func (s *Server) Set(pods ...Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pods = pods
}

// Fail makes the runtime answer with an error when it is asked for its pods.
func (s *Server) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listFail = err
}

// Version implements the runtime service.
func (s *Server) Version(context.Context, *cri.VersionRequest) (*cri.VersionResponse, error) {
	return &cri.VersionResponse{Version: "0.1.0", RuntimeName: "critest", RuntimeVersion: "1.2.3", RuntimeApiVersion: "v1"}, nil
}

// ListPodSandbox implements the runtime service, with every filter.
func (s *Server) ListPodSandbox(_ context.Context, asked *cri.ListPodSandboxRequest) (*cri.ListPodSandboxResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listFail != nil {
		return nil, s.listFail
	}
	answer := &cri.ListPodSandboxResponse{}
	for _, pod := range s.pods {
		state := cri.PodSandboxState_SANDBOX_READY
		if pod.NotReady {
			state = cri.PodSandboxState_SANDBOX_NOTREADY
		}
		filter := asked.GetFilter()
		if filter.GetId() != "" && filter.GetId() != pod.Sandbox || filter.GetState() != nil && filter.GetState().GetState() != state {
			continue
		}
		answer.Items = append(answer.Items, &cri.PodSandbox{Id: pod.Sandbox, State: state, CreatedAt: 1, Labels: pod.Labels,
			Annotations: map[string]string{"note": "of no matter"}, Metadata: &cri.PodSandboxMetadata{Name: pod.Name, Namespace: pod.Namespace, Uid: pod.UID, Attempt: pod.Attempt}})
	}
	return answer, nil
}

// PodSandboxStatus implements the runtime service.
func (s *Server) PodSandboxStatus(_ context.Context, asked *cri.PodSandboxStatusRequest) (*cri.PodSandboxStatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pod := range s.pods {
		if pod.Sandbox == asked.GetPodSandboxId() {
			return &cri.PodSandboxStatusResponse{Status: &cri.PodSandboxStatus{Id: pod.Sandbox}, Info: info(asked.GetVerbose(), pod.PID)}, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "there is no sandbox %q", asked.GetPodSandboxId())
}

// ListContainers implements the runtime service.
func (s *Server) ListContainers(_ context.Context, asked *cri.ListContainersRequest) (*cri.ListContainersResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := &cri.ListContainersResponse{}
	for _, pod := range s.pods {
		if pod.Sandbox != asked.GetFilter().GetPodSandboxId() || asked.GetFilter().GetState().GetState() != cri.ContainerState_CONTAINER_RUNNING {
			continue
		}
		for id := range pod.Containers {
			answer.Containers = append(answer.Containers, &cri.Container{Id: id, PodSandboxId: pod.Sandbox, State: cri.ContainerState_CONTAINER_RUNNING})
		}
	}
	return answer, nil
}

// ContainerStatus implements the runtime service.
func (s *Server) ContainerStatus(_ context.Context, asked *cri.ContainerStatusRequest) (*cri.ContainerStatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pod := range s.pods {
		if pid, ok := pod.Containers[asked.GetContainerId()]; ok {
			return &cri.ContainerStatusResponse{Status: &cri.ContainerStatus{Id: asked.GetContainerId()}, Info: info(asked.GetVerbose(), pid)}, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "there is no container %q", asked.GetContainerId())
}

// info is what runtimes tell beside the interface, and only who asks for it.
func info(verbose bool, pid int) map[string]string {
	if !verbose || pid == 0 {
		return nil
	}
	return map[string]string{"info": fmt.Sprintf(`{"sandboxID":"x","pid":%d,"runtimeSpec":{"process":{"args":["/pause"]}}}`, pid), "other": "{"}
}
