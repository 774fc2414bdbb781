package attest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"firedrill/internal/history"
)

func run() fstest.MapFS {
	return fstest.MapFS{
		"run.jsonl":   {Data: []byte("one\ntwo\n")},
		"report.html": {Data: []byte("<p>passed</p>")},
	}
}

func made(t *testing.T) (text []byte, statement Statement) {
	t.Helper()
	text, err := Make(run(), Statement{
		Run: "r1", Service: "bookstore", Outcome: history.Passed, Events: 2, Head: strings.Repeat("ab", 32), Made: time.Date(2026, 11, 28, 10, 0, 0, 5, time.UTC), Tool: "v1",
	}, []string{"run.jsonl", "report.html"})
	if err != nil {
		t.Fatal(err)
	}
	if statement, err = Parse(text); err != nil {
		t.Fatal(err)
	}
	return text, statement
}

func TestCheckNamesEachFileThatDiffers(t *testing.T) {
	_, statement := made(t)
	if err := statement.Check(run()); err != nil {
		t.Fatalf("an untouched run: %v", err)
	}
	for name, tamper := range map[string]func(fstest.MapFS){
		"run.jsonl was changed: its digest": func(files fstest.MapFS) { files["run.jsonl"] = &fstest.MapFile{Data: []byte("one\ntwa\n")} },
		"run.jsonl was changed: 9 bytes":    func(files fstest.MapFS) { files["run.jsonl"] = &fstest.MapFile{Data: []byte("one\ntwo\n\n")} },
		"report.html is missing":            func(files fstest.MapFS) { delete(files, "report.html") },
	} {
		files := run()
		tamper(files)
		if err := statement.Check(files); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Check says %v, and not that %s", err, name)
		}
	}
}

func TestParseRefusesWhatItDoesNotKnow(t *testing.T) {
	text, _ := made(t)
	for _, change := range [][2]string{
		{`"version": 1`, `"version": 2`},
		{`"run": "r1"`, `"run": "r1", "waived": true`},
		{`"name": "report.html"`, `"name": "../report.html"`},
		{`"name": "report.html"`, `"name": "run.jsonl"`},
		{"}\n", "}\n{}"},
	} {
		altered := bytes.Replace(text, []byte(change[0]), []byte(change[1]), 1)
		if change[0] == "}\n" {
			altered = append(bytes.Clone(text), "{}"...)
		}
		if _, err := Parse(altered); err == nil {
			t.Errorf("accepted with %s in place of %s", change[1], change[0])
		}
	}
}

// Every single bit of statement and signature counts, also those that base64 leaves over in its last letter.
func TestVerifyHoldsOnlyForWhatWasSigned(t *testing.T) {
	text, statement := made(t)
	private, public := pair(t, "")
	signature := private.Sign(text, statement)
	if err := public.Verify(text, signature); err != nil {
		t.Fatalf("what was signed: %v", err)
	}
	if err := public.Verify(text, bytes.ReplaceAll(signature, []byte("\n"), []byte("\r\n"))); err != nil {
		t.Errorf("what was signed, with the line ends of Windows: %v", err)
	}
	for i := range text {
		altered := bytes.Clone(text)
		altered[i] ^= 1
		if public.Verify(altered, signature) == nil {
			t.Fatalf("verified with byte %d of the statement changed", i)
		}
	}
	for _, altered := range variants(signature) {
		if public.Verify(text, altered) == nil {
			t.Fatalf("verified with another signature:\n%s", altered)
		}
	}
	hooks.lenient = true
	defer func() { hooks.lenient = false }()
	if !slices.ContainsFunc(variants(signature), func(altered []byte) bool { return public.Verify(text, altered) == nil }) {
		t.Error("the check does not notice that the bits which say nothing are passed over")
	}
	hooks.lenient = false
	_, other := pair(t, "")
	if err := other.Verify(text, signature); err == nil || !strings.Contains(err.Error(), private.ID()) {
		t.Errorf("another key says %v", err)
	}
}

// variants are a signature with each single bit flipped, but for those of the comment that is neither signed nor shown. Whatever the last
// letter of base64 is, one of its flips changes none but bits that say nothing.
func variants(signature []byte) (all [][]byte) {
	for i := bytes.IndexByte(signature, '\n') + 1; i < len(bytes.TrimRight(signature, "\n")); i++ {
		for bit := range 8 {
			altered := bytes.Clone(signature)
			altered[i] ^= 1 << bit
			all = append(all, altered)
		}
	}
	return all
}

func pair(t *testing.T, password string) (PrivateKey, PublicKey) {
	t.Helper()
	privateText, publicText, err := NewKey(password)
	if err != nil {
		t.Fatal(err)
	}
	private, err := ParsePrivateKey(privateText, password)
	if err != nil {
		t.Fatal(err)
	}
	public, err := ParsePublicKey(publicText)
	if err != nil {
		t.Fatal(err)
	}
	if private.ID() != public.ID() {
		t.Fatalf("the halves are called %s and %s", private.ID(), public.ID())
	}
	return private, public
}

// That the right password opens it is shown by the script of the command: each try costs a second and a gigabyte, on purpose.
func TestPasswordGuardsTheKey(t *testing.T) {
	private, _, err := NewKey("right")
	if err != nil {
		t.Fatal(err)
	}
	if !Encrypted(private) {
		t.Error("the key has no password")
	}
	if _, err := ParsePrivateKey(private, "wrong"); !errors.Is(err, ErrPassword) {
		t.Errorf("the wrong password: %v", err)
	}
}

// The tool that auditors have: it verifies what we sign, refuses what was changed, and we verify what it signs.
func TestMinisignAgrees(t *testing.T) {
	minisign, err := exec.LookPath("minisign")
	if err != nil {
		if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "minisign") {
			t.Fatal(err)
		}
		t.Skip("no minisign here")
	}
	text, statement := made(t)
	privateText, publicText, err := NewKey("")
	if err != nil {
		t.Fatal(err)
	}
	private, err := ParsePrivateKey(privateText, "")
	if err != nil {
		t.Fatal(err)
	}
	public, err := ParsePublicKey(publicText)
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	write := func(name string, content []byte) string {
		t.Helper()
		file := filepath.Join(directory, name)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	file, key := write(FileName, text), write("key.pub", publicText)
	write(SignatureName, private.Sign(text, statement))
	verify := exec.Command(minisign, "-V", "-p", key, "-m", file)
	if out, err := verify.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("outcome:passed")) {
		t.Fatalf("minisign does not verify what we signed: %v\n%s", err, out)
	}
	write(FileName, bytes.Replace(text, []byte(`"passed"`), []byte(`"failed"`), 1))
	if out, err := exec.Command(minisign, "-V", "-p", key, "-m", file).CombinedOutput(); err == nil {
		t.Fatalf("minisign verifies what was changed:\n%s", out)
	}
	write(FileName, text)
	secret := write("key", privateText)
	if out, err := exec.Command(minisign, "-S", "-W", "-s", secret, "-m", file).CombinedOutput(); err != nil {
		t.Fatalf("minisign cannot sign with our key: %v\n%s", err, out)
	}
	signature, err := os.ReadFile(filepath.Join(directory, SignatureName))
	if err != nil {
		t.Fatal(err)
	}
	if err := public.Verify(text, signature); err != nil {
		t.Errorf("what minisign signed: %v", err)
	}
}

func FuzzParseSignatureAndKeys(f *testing.F) {
	text, err := Make(run(), Statement{Run: "r"}, []string{"run.jsonl"})
	if err != nil {
		f.Fatal(err)
	}
	privateText, publicText, err := NewKey("")
	if err != nil {
		f.Fatal(err)
	}
	private, err := ParsePrivateKey(privateText, "")
	if err != nil {
		f.Fatal(err)
	}
	public, err := ParsePublicKey(publicText)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{text, publicText, privateText, private.Sign(text, Statement{}), nil, []byte("untrusted comment: \n")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		_, _ = ParsePublicKey(input)
		if !Encrypted(input) {
			_, _ = ParsePrivateKey(input, "")
		}
		_ = public.Verify(input, input)
		statement, err := Parse(input)
		if err != nil {
			return
		}
		if again, err := json.Marshal(statement); err != nil || len(again) == 0 {
			t.Errorf("a statement that was read cannot be written: %v", err)
		}
		_ = statement.Check(emptyFS{})
	})
}

type emptyFS struct{}

func (emptyFS) Open(string) (fs.File, error) { return nil, fs.ErrNotExist }
