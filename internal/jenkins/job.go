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
	unreadMax     = 200 // more than this is no list that anybody reads
)

// Job is what a job does over SSH, in its order.
type Job struct {
	Git        string // URL of the repository, if there is one
	Branch     string
	Publishers []Publisher
	Unread     []Unread // everything else that the job says
}

// Unread is something in a job that this reader has no word for.
type Unread struct {
	Path  string // names of the elements from below the root, as builders/hudson.tasks.Shell/command
	Value string // "" for a step without settings
}

// Publisher is one connection to a configured SSH server.
type Publisher struct {
	Config      string // name of the server in Jenkins
	Transfers   []Transfer
	Label       string
	Retries     int
	RetryDelay  string
	Unknown     []string // as in Transfer
	Promotion   bool     // of a promotion, or of a step after the build
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

// separatorDefault is the plugin's expression between patterns.
const separatorDefault = "[, ]+"

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
	c.walk(root, nil, false)
	switch {
	case c.over:
		return Job{}, invalid(fmt.Errorf("more than %d publishers or %d transfers", publishersMax, transfersMax), "")
	case len(job.Publishers) == 0 && root.XMLName.Local == "flow-definition":
		return Job{}, invalid(errors.New("its steps are a script"), "A pipeline job is Groovy, which is not read here. Put firedrill pipeline in place of its sshPublisher steps: ci/jenkins/Jenkinsfile.")
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

func (c *collector) walk(e element, above []string, promotion bool) {
	name := e.XMLName.Local
	promotion = promotion || strings.HasSuffix(name, "Promotion") || strings.HasPrefix(name, "jenkins.plugins.publish__over__ssh.BapSshPromotion")
	if isPublisher(e) {
		c.publisher(e, promotion)
		return
	}
	read := map[string]bool{}
	switch {
	case strings.HasSuffix(name, "UserRemoteConfig") && c.job.Git == "":
		c.job.Git = e.child("url")
		read["url"] = true
	case strings.HasSuffix(name, "BranchSpec") && c.job.Branch == "":
		c.job.Branch = strings.TrimPrefix(e.child("name"), "*/")
		read["name"] = true
	}
	failOnError, continueOn := e.child("failOnError") == "true", e.child("continueOnError") == "true"
	before := len(c.job.Publishers)
	for _, child := range e.Children {
		path := append(above[:len(above):len(above)], child.XMLName.Local)
		if !read[child.XMLName.Local] && !ofThePlugin[child.XMLName.Local] {
			c.unread(child, path)
		}
		c.walk(child, path, promotion)
	}
	if failOnError || continueOn {
		for i := before; i < len(c.job.Publishers); i++ {
			c.job.Publishers[i].FailOnError = c.job.Publishers[i].FailOnError || failOnError
			c.job.Publishers[i].ContinueOn = c.job.Publishers[i].ContinueOn || continueOn
		}
	}
}

// ofThePlugin are read, or say nothing about what the job does.
var ofThePlugin = map[string]bool{"failOnError": true, "continueOnError": true, "consolePrefix": true, "configVersion": true, "canRoam": true}

// unread notes what a leaf says, and a step that stands there without any setting: its name is that of a class.
func (c *collector) unread(e element, path []string) {
	value := strings.TrimSpace(e.Text)
	isStep := strings.Contains(e.XMLName.Local, ".")
	if len(e.Children) > 0 || value == "false" || value == "" && !isStep || len(c.job.Unread) > unreadMax {
		return
	}
	c.job.Unread = append(c.job.Unread, Unread{Path: strings.Join(path, "/"), Value: value})
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
			p.RetryDelay = child.child("retryDelay")
			var err error
			if p.Retries, err = strconv.Atoi(child.child("retries")); err != nil {
				p.Unknown = append(p.Unknown, said(child)...)
			}
		case strings.HasSuffix(name, "SshLabel") || name == "label":
			p.Label = child.child("label")
		case name == "configName":
		default:
			p.Unknown = append(p.Unknown, said(child)...)
		}
	}
	c.job.Publishers = append(c.job.Publishers, p)
}

// said lists what an element says, with what is below it.
func said(e element) []string {
	if len(e.Children) == 0 {
		if value := strings.TrimSpace(e.Text); value != "" && value != "false" {
			return []string{e.XMLName.Local + " " + strconv.Quote(value)}
		}
		return nil
	}
	var all []string
	for _, child := range e.Children {
		for _, text := range said(child) {
			all = append(all, e.XMLName.Local+"/"+text)
		}
	}
	return all
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
		case switches[name] != nil && (value == "true" || value == "false" || value == ""):
			*switches[name] = value == "true"
		case name == "execTimeout":
			milliseconds, err := strconv.Atoi(value)
			if err != nil || milliseconds < 0 {
				t.Unknown = append(t.Unknown, name+" "+strconv.Quote(value))
				continue
			}
			t.ExecTimeout = milliseconds
		default:
			t.Unknown = append(t.Unknown, said(child)...)
		}
	}
	return t
}
