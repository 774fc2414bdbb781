package jenkins

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"firedrill/internal/drill"
)

// Limits of a job. The largest that people keep is far below.
const (
	sizeMax       = 4 << 20
	depthMax      = 100
	publishersMax = 200
	transfersMax  = 1000
)

// Job is what a job does over SSH, in its order.
type Job struct {
	Git        string // URL of the repository, if there is one
	Branch     string
	Publishers []Publisher
}

// Publisher is one connection to a configured SSH server.
type Publisher struct {
	Config      string // name of the server in Jenkins
	Transfers   []Transfer
	Label       string
	Retries     int
	Promotion   bool // of a promotion, or of a step after the build
	ContinueOn  bool
	FailOnError bool
}

// Transfer is one set of files, and the command after it.
type Transfer struct {
	SourceFiles, Excludes, RemovePrefix, RemoteDirectory, ExecCommand string
	ExecTimeout                                                       int // milliseconds; 0 = none
	Flatten, CleanRemote, MakeEmptyDirs, UsePty, UseAgentForwarding   bool
	NoDefaultExcludes, RemoteDirectorySDF, KeepFilePermissions        bool
	UseSftpForExec                                                    bool
	PatternSeparator                                                  string
	Unknown                                                           []string // fields that this reader has no word for, with their values
}

// execTimeoutDefault is the plugin's, in milliseconds.
const execTimeoutDefault = 120_000

// element is any XML element.
type element struct {
	XMLName  xml.Name
	Text     string    `xml:",chardata"`
	Children []element `xml:",any"`
}

// Read reads a config.xml. An error is a *drill.Error of kind Invalid.
func Read(input io.Reader) (Job, error) {
	invalid := func(err error, hint string) error {
		return &drill.Error{Op: "read the job", Kind: drill.Invalid, Err: err, Hint: hint}
	}
	text, err := io.ReadAll(io.LimitReader(input, sizeMax+1))
	switch {
	case err != nil:
		return Job{}, invalid(err, "")
	case len(text) > sizeMax:
		return Job{}, invalid(fmt.Errorf("larger than %d MiB", sizeMax>>20), "That is no job.")
	}
	text = withoutVersion(text)
	if err := harmless(text); err != nil {
		return Job{}, invalid(err, "Take the config.xml of the job: JENKINS_HOME/jobs/NAME/config.xml, or JENKINS_URL/job/NAME/config.xml.")
	}
	var root element
	decoder := xml.NewDecoder(bytes.NewReader(text))
	decoder.Entity = nil
	if err := decoder.Decode(&root); err != nil {
		return Job{}, invalid(err, "")
	}
	job := Job{}
	c := collector{job: &job}
	c.walk(root, false)
	switch {
	case c.over:
		return Job{}, invalid(fmt.Errorf("more than %d publishers or %d transfers", publishersMax, transfersMax), "")
	case len(job.Publishers) == 0:
		return Job{}, invalid(errors.New("nothing in it publishes over SSH"), "Only jobs with steps of Publish Over SSH can be imported.")
	}
	return job, nil
}

// withoutVersion turns the declaration of XML 1.1, which Jenkins writes and Go's reader refuses, into that of 1.0. They differ in control
// characters alone, which the reader refuses as well.
func withoutVersion(text []byte) []byte {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	const declared = 100 // how far into the file a declaration may reach
	head := text[:min(len(text), declared)]
	end := bytes.Index(head, []byte("?>"))
	if !bytes.HasPrefix(head, []byte("<?xml")) || end < 0 {
		return text
	}
	return text[end+len("?>"):]
}

// harmless refuses what a job never has and an attacker likes: document types, entities, depth.
func harmless(text []byte) error {
	decoder := xml.NewDecoder(bytes.NewReader(text))
	depth := 0
	for {
		token, err := decoder.RawToken()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch token.(type) {
		case xml.Directive:
			return errors.New("a document type or an entity has no place in a job")
		case xml.StartElement:
			if depth++; depth > depthMax {
				return fmt.Errorf("nested deeper than %d levels", depthMax)
			}
		case xml.EndElement:
			depth--
		}
	}
}

// collector walks a job. Where the plugin's parts stand depends on the kind of the job, so they are found by their own names.
type collector struct {
	job       *Job
	transfers int
	over      bool
}

func (c *collector) walk(e element, promotion bool) {
	name := e.XMLName.Local
	promotion = promotion || strings.HasSuffix(name, "Promotion") || strings.HasPrefix(name, "jenkins.plugins.publish__over__ssh.BapSshPromotion")
	switch {
	case strings.HasSuffix(name, "UserRemoteConfig") && c.job.Git == "":
		c.job.Git = e.child("url")
	case strings.HasSuffix(name, "BranchSpec") && c.job.Branch == "":
		c.job.Branch = strings.TrimPrefix(e.child("name"), "*/")
	case isPublisher(e):
		c.publisher(e, promotion)
		return
	}
	failOnError, continueOn := e.child("failOnError") == "true", e.child("continueOnError") == "true"
	before := len(c.job.Publishers)
	for _, child := range e.Children {
		c.walk(child, promotion)
	}
	if failOnError || continueOn {
		for i := before; i < len(c.job.Publishers); i++ {
			c.job.Publishers[i].FailOnError = c.job.Publishers[i].FailOnError || failOnError
			c.job.Publishers[i].ContinueOn = c.job.Publishers[i].ContinueOn || continueOn
		}
	}
}

// isPublisher tells a server's part from the list of them, which may have the same name.
func isPublisher(e element) bool {
	return strings.HasSuffix(e.XMLName.Local, "BapSshPublisher") && e.has("configName")
}

func (e element) has(name string) bool {
	for _, child := range e.Children {
		if child.XMLName.Local == name {
			return true
		}
	}
	return false
}

// child is the text of a child, without space around it.
func (e element) child(name string) string {
	for _, child := range e.Children {
		if child.XMLName.Local == name {
			return strings.TrimSpace(child.Text)
		}
	}
	return ""
}

func (c *collector) publisher(e element, promotion bool) {
	if len(c.job.Publishers) == publishersMax {
		c.over = true
		return
	}
	p := Publisher{Config: e.child("configName"), Promotion: promotion}
	for _, child := range e.Children {
		switch name := child.XMLName.Local; {
		case name == "transfers":
			for _, transfer := range child.Children {
				if c.transfers++; c.transfers > transfersMax {
					c.over = true
					return
				}
				p.Transfers = append(p.Transfers, readTransfer(transfer))
			}
		case strings.HasSuffix(name, "SshRetry") || name == "retry":
			p.Retries, _ = strconv.Atoi(child.child("retries")) // not a number: none
		case strings.HasSuffix(name, "SshLabel") || name == "label":
			p.Label = child.child("label")
		}
	}
	c.job.Publishers = append(c.job.Publishers, p)
}

func readTransfer(e element) Transfer {
	t := Transfer{ExecTimeout: execTimeoutDefault}
	texts := map[string]*string{
		"sourceFiles": &t.SourceFiles, "excludes": &t.Excludes, "removePrefix": &t.RemovePrefix, "remoteDirectory": &t.RemoteDirectory,
		"execCommand": &t.ExecCommand, "patternSeparator": &t.PatternSeparator,
	}
	switches := map[string]*bool{
		"flatten": &t.Flatten, "cleanRemote": &t.CleanRemote, "makeEmptyDirs": &t.MakeEmptyDirs, "usePty": &t.UsePty,
		"useAgentForwarding": &t.UseAgentForwarding, "noDefaultExcludes": &t.NoDefaultExcludes, "remoteDirectorySDF": &t.RemoteDirectorySDF,
		"keepFilePermissions": &t.KeepFilePermissions, "useSftpForExec": &t.UseSftpForExec,
	}
	for _, child := range e.Children {
		name, value := child.XMLName.Local, strings.TrimSpace(child.Text)
		switch {
		case texts[name] != nil:
			*texts[name] = value
		case switches[name] != nil:
			*switches[name] = value == "true"
		case name == "execTimeout":
			milliseconds, err := strconv.Atoi(value)
			if err != nil || milliseconds < 0 {
				t.Unknown = append(t.Unknown, name+" "+strconv.Quote(value))
				continue
			}
			t.ExecTimeout = milliseconds
		case value != "" && value != "false":
			t.Unknown = append(t.Unknown, name+" "+strconv.Quote(value))
		}
	}
	return t
}
