package fleet

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
)

var noon = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

const (
	someHost  = "UAKB6F3U5LEPLQ3YB2754ZBYS5EJSHGL6NM3NC3PW3KHVEZE2K4WCBQV"
	otherHost = "UCBSHXADOSFOZ7GZWPTZYKO57GIMP2VI7BFPTM5IGELZ6CX6RP4ZUNR6"
	someID    = "01a22518-8e1f-787c-a586-de28ef33f06b"
)

func key(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune('a'+seed)), ed25519.SeedSize)))
}

func someOrder() Order {
	return Order{ID: someID, Run: someID, Fleet: "f", Host: someHost, Kind: "blackhole", Args: []string{"-l", "60"}, By: "ann",
		Issued: noon, Start: noon.Add(3 * time.Second), Expires: noon.Add(8 * time.Second), Deadline: noon.Add(time.Hour)}
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return ed25519.PublicKey(k[ed25519.SeedSize:]) }

func TestAnOrderIsReadAsItWasSigned(t *testing.T) {
	want := someOrder()
	text, err := Sign(want, key(0))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Open(text, public(key(0)))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	// Every single bit counts.
	for i := range text {
		changed := slices.Clone(text)
		changed[i] ^= 1
		if got, err := Open(changed, public(key(0))); err == nil && !reflect.DeepEqual(got, want) {
			t.Fatalf("with byte %d changed it is %+v", i, got)
		}
	}
	if _, err := Open(text, public(key(1))); !errors.Is(err, ErrForged) {
		t.Errorf("another's key opens it: %v", err)
	}
	if _, err := Open(text, nil); !errors.Is(err, ErrForged) {
		t.Errorf("no key opens it: %v", err)
	}
}

func TestOrdersThatAreNotUnderstoodAreRefused(t *testing.T) {
	k := key(0)
	sign := func(body string) []byte {
		text, err := json.Marshal(signed{Order: []byte(body), Signature: ed25519.Sign(k, append([]byte(orderContext), body...))})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	body, err := json.Marshal(someOrder())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(sign(string(body)), public(k)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"a bound of a newer version": strings.Replace(string(body), `{"id"`, `{"never_on_sunday":true,"id"`, 1),
		"something behind it":        string(body) + "{}",
		"nothing":                    "",
	} {
		if _, err := Open(sign(text), public(k)); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	for name, change := range map[string]func(*Order){
		"valid for long": func(o *Order) { o.Expires = o.Issued.Add(time.Hour) },
		"for two days":   func(o *Order) { o.Deadline = o.Start.Add(48 * time.Hour) },
		"no deadline":    func(o *Order) { o.Deadline = time.Time{} },
		"start first":    func(o *Order) { o.Start = o.Issued.Add(-time.Second) },
		"a guid":         func(o *Order) { o.Args = []string{"--guid=x"} },
		"consent":        func(o *Order) { o.Args = []string{"--yes"} },
		"positional":     func(o *Order) { o.Args = []string{"--", "x"} },
		"a file":         func(o *Order) { o.Args = []string{"-i", "@/etc/shadow"} },
		"a shell":        func(o *Order) { o.Kind = "list;id" },
		"nobody's":       func(o *Order) { o.By = "" },
		"no host":        func(o *Order) { o.Host = "*" },
	} {
		o := someOrder()
		change(&o)
		if _, err := Sign(o, k); drill.KindOf(err) != drill.Invalid || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAHostAdmitsAnOrderOnlyInItsTime(t *testing.T) {
	self := Self{Fleet: "f", Host: someHost}
	for name, row := range map[string]struct {
		now  time.Time
		self Self
		why  string
	}{
		"in time":           {noon.Add(time.Second), self, ""},
		"a clock behind":    {noon.Add(-SkewMax), self, ""},
		"far behind":        {noon.Add(-SkewMax - time.Second), self, "yet to come"},
		"the last instant":  {noon.Add(8*time.Second - 1), self, ""},
		"expired":           {noon.Add(8 * time.Second), self, "expired"},
		"another fleet":     {noon, Self{Fleet: "g", Host: someHost}, "another fleet"},
		"another host":      {noon, Self{Fleet: "f", Host: otherHost}, "another host"},
		"after a halt":      {noon, Self{Fleet: "f", Host: someHost, Epoch: 1}, "epoch"},
		"the lever engaged": {noon, Self{Fleet: "f", Host: someHost, Halted: true}, "lever"},
	} {
		err := someOrder().Admit(row.now, row.self)
		if (err == nil) != (row.why == "") || err != nil && !strings.Contains(err.Error(), row.why) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// many makes a fleet of services with environments in zones.
func many(count int) []Candidate {
	var all []Candidate
	for i := range count {
		all = append(all, Candidate{Key: fmt.Sprint("k", i), Name: fmt.Sprintf("h%03d", i), Zone: fmt.Sprint("z", i%3), Online: i%11 != 7, Attacked: i%13 == 5,
			Tags: map[string]string{TagService: fmt.Sprint("s", i%4), TagEnvironment: []string{"blue", "green"}[i/4%2]}, Kinds: []string{"cpu"}})
	}
	return all
}

func TestAChoiceIsTheSameForASeedAndKeepsToWhatWasAsked(t *testing.T) {
	fleet := many(60)
	s := Selector{Tags: map[string]string{TagService: "s1"}, Count: 3, Seed: 42}
	first, err := Choose(fleet, s, "cpu", Limits{Percent: 100})
	if err != nil {
		t.Fatal(err)
	}
	shuffled := slices.Clone(fleet)
	slices.Reverse(shuffled)
	again, err := Choose(shuffled, s, "cpu", Limits{Percent: 100})
	if err != nil || !reflect.DeepEqual(first, again) {
		t.Errorf("the order of hosts changes the choice: %v %v %v", first, again, err)
	}
	choices := map[string]bool{}
	for seed := range uint64(50) {
		s.Seed = seed
		chosen, err := Choose(fleet, s, "cpu", Limits{Percent: 100})
		if err != nil || len(chosen) != 3 {
			t.Fatalf("seed %d: %v %v", seed, chosen, err)
		}
		for _, c := range chosen {
			if !c.Healthy() || c.Tags[TagService] != "s1" {
				t.Fatalf("seed %d chooses %+v", seed, c)
			}
		}
		choices[fmt.Sprint(chosen)] = true
	}
	if len(choices) < 20 {
		t.Errorf("50 seeds choose in %d ways", len(choices))
	}
	for name, bad := range map[string]Selector{
		"nothing said":     {},
		"all and some":     {All: true, Zones: []string{"z1"}},
		"too many":         {All: true, Count: 100},
		"a share and more": {All: true, Count: 1, Percent: 10},
		"over all":         {All: true, Percent: 101},
		"who is not there": {Names: []string{"h007"}},
		"under attack":     {Names: []string{"h005"}},
		"unknown":          {Names: []string{"h999"}},
		"no such zone":     {Zones: []string{"z9"}},
	} {
		if chosen, err := Choose(fleet, bad, "cpu", Limits{Percent: 100}); err == nil {
			t.Errorf("%s: %v", name, chosen)
		}
	}
	if chosen, err := Choose(fleet, Selector{All: true}, "shutdown", Limits{Percent: 100}); err == nil {
		t.Errorf("what they cannot run: %v", chosen)
	}
}

// A random choice keeps within the limits where it can: whoever asks for half of a service is not refused by the luck of the seed.
func TestARandomChoiceKeepsWithinTheLimits(t *testing.T) {
	web := func(i int, environment string) Candidate {
		return Candidate{Key: fmt.Sprint("k", i), Name: fmt.Sprint("web", i), Zone: fmt.Sprint("z", i/2), Online: true, Kinds: []string{"cpu"}, Tags: map[string]string{TagService: "shop", TagEnvironment: environment}}
	}
	five := []Candidate{web(1, "blue"), web(2, "blue"), web(3, "green"), web(4, "green"), web(5, "green")}
	limits := Limits{Percent: 50}
	moved := 0
	for seed := range uint64(200) {
		s := Selector{Tags: map[string]string{TagService: "shop"}, Percent: 50, Seed: seed}
		unbounded, err := Choose(five, s, "cpu", Limits{Percent: 100})
		if err != nil {
			t.Fatal(err)
		}
		chosen, err := Choose(five, s, "cpu", limits)
		if err != nil || len(chosen) != 2 || limits.Admit(five, chosen) != nil {
			t.Fatalf("seed %d: %v %v %v", seed, chosen, err, limits.Admit(five, chosen))
		}
		allowed := limits.Admit(five, unbounded) == nil
		if same := reflect.DeepEqual(chosen, unbounded); allowed != same {
			t.Errorf("seed %d: what was allowed was chosen otherwise, or the other way round: %v", seed, chosen)
		}
		if !allowed {
			moved++
		}
	}
	if moved < 20 {
		t.Errorf("only %d of 200 seeds would have been refused", moved)
	}
	// More than can be is refused as before; what is picked of many is always admitted.
	if chosen, err := Choose(five, Selector{All: true, Count: 4, Seed: 1}, "cpu", limits); err != nil || limits.Admit(five, chosen) == nil {
		t.Errorf("four of five: %v %v", chosen, err)
	}
	picked := 0
	for count := 2; count < 80; count++ {
		fleet := many(count)
		for _, percent := range []float64{1, 20, 50, 100} {
			chosen := Limits{Percent: percent}.pick(fleet, slices.DeleteFunc(slices.Clone(fleet), func(c Candidate) bool { return !c.Healthy() }), count)
			if len(chosen) == 0 {
				continue
			}
			picked++
			if err := (Limits{Percent: percent}).Admit(fleet, chosen); err != nil {
				t.Fatalf("%d of %d hosts at %g %%: %v", len(chosen), count, percent, err)
			}
		}
	}
	if picked < 200 {
		t.Errorf("only %d were picked", picked)
	}
}

func TestARefusedChoiceSaysWhichHostsWereMeant(t *testing.T) {
	fleet := []Candidate{{Key: "a", Name: "a", Zone: "z1", Online: true, Attacked: true, Kinds: []string{"cpu"}}, {Key: "b", Name: "b", Zone: "z1", Kinds: []string{"cpu"}}}
	for want, s := range map[string]Selector{
		"no host has the zone z9":                       {Zones: []string{"z9"}},
		"no host has the tag service=x and the zone z1": {Zones: []string{"z1"}, Tags: map[string]string{TagService: "x"}},
		"of the hosts with the zone z1 none can be attacked: a is under attack, b is not there": {Zones: []string{"z1"}},
	} {
		if _, err := Choose(fleet, s, "cpu", Limits{Percent: 100}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	if _, err := Choose(fleet, Selector{All: true, Percent: 101}, "cpu", Limits{}); strings.Contains(drill.HintOf(err), "--all") {
		t.Errorf("the cure of a percentage is %q", drill.HintOf(err))
	}
	if _, err := Choose(nil, Selector{All: true}, "cpu", Limits{}); err == nil || !strings.Contains(err.Error(), "no host has joined") {
		t.Error(err)
	}
}

// survives checks what must hold whatever was chosen and admitted.
func survives(fleet, chosen []Candidate) error {
	hit := map[string]bool{}
	for _, c := range chosen {
		hit[c.Key] = true
	}
	left, had := map[string]int{}, map[string]bool{}
	for _, c := range fleet {
		service := c.Tags[TagService]
		had[service] = had[service] || hit[c.Key]
		if c.Healthy() && !hit[c.Key] {
			left[service]++
		}
	}
	for service := range had {
		if had[service] && left[service] == 0 {
			return fmt.Errorf("no healthy host of %q is left", service)
		}
	}
	return nil
}

func TestLimitsNeverLeaveAServiceWithoutAHost(t *testing.T) {
	admitted := 0
	for count := 1; count < 14; count++ {
		fleet := many(count)
		for mask := range 1 << count {
			var chosen []Candidate
			for i, c := range fleet {
				if mask>>i&1 == 1 {
					chosen = append(chosen, c)
				}
			}
			if (Limits{Percent: 100}).Admit(fleet, chosen) != nil {
				continue
			}
			admitted++
			if err := survives(fleet, chosen); err != nil {
				t.Fatalf("of %d hosts %v: %v", count, chosen, err)
			}
		}
	}
	if admitted < 100 {
		t.Errorf("only %d choices were admitted", admitted)
	}
}

func TestLimitsCountWhatIsUnderAttackAlready(t *testing.T) {
	host := func(name, zone string, attacked bool) Candidate {
		return Candidate{Key: name, Name: name, Zone: zone, Online: true, Attacked: attacked, Tags: map[string]string{TagService: "s"}}
	}
	fleet := []Candidate{host("a", "1", true), host("b", "1", false), host("c", "2", false), host("d", "2", false), host("e", "2", false), host("f", "1", false)}
	for name, row := range map[string]struct {
		chosen  []Candidate
		percent float64
		want    bool
	}{
		"a half, with what runs":      {fleet[2:4], 50, false}, // zone 2: two of three
		"one more":                    {fleet[2:3], 50, true},
		"more than a half of zone 1":  {fleet[1:2], 50, false},
		"all of zone 2, when allowed": {fleet[2:5], 100, true},
		"everything":                  {fleet, 100, false},
	} {
		if err := (Limits{Percent: row.percent}).Admit(fleet, row.chosen); (err == nil) != row.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if Limits.Admit(Limits{Percent: 100}, fleet[:1], fleet[:1]) == nil {
		t.Error("the only host may be attacked")
	}
}

func TestAMemberIsAnsweredOnItsOwnSubjects(t *testing.T) {
	for reply, want := range map[string]bool{Inbox(someHost) + ".a.b": true, Inbox(someHost) + ".": false, Inbox(someHost): false, Inbox(otherHost) + ".a": false,
		Inbox(someHost) + "x.a": false, SubjectHalt: false, "": false, Inbox(someHost) + ".>": false} {
		if AnswersTo(reply, someHost) != want {
			t.Errorf("%q: %v", reply, !want)
		}
	}
}

func TestTokensAndAddresses(t *testing.T) {
	token := Token{Secret: strings.Repeat("a", 32), Pin: strings.Repeat("b", 42) + "A"}
	if got, err := ParseToken(" " + token.String() + "\n"); err != nil || got != token {
		t.Errorf("%v %v", got, err)
	}
	for _, bad := range []string{"", "fdj", "fdj.a.b", "fdj.." + token.Pin, token.String() + ".x", strings.ToUpper(token.String())[:20]} {
		if _, err := ParseToken(bad); err == nil {
			t.Errorf("%q is a token", bad)
		}
	}
	for text, want := range map[string]string{"control:7422/x": "", "control:0": "", "control:http": "", "control:65536": "", "c": "c:7422", "c:1": "c:1", "tls://c:1": "c:1", "tls://c/": "c:7422", "[::1]:5": "[::1]:5", "::1": "[::1]:7422",
		"http://c": "", "tls://u@c": "", "": "", "tls://": "", "a b": ""} {
		if got, err := Address(text); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q %v", text, got, err)
		}
	}
}

func TestRolesAreALadder(t *testing.T) {
	for call := range Calls {
		if MayCall(RoleAgent, call) || MayCall("", call) || !MayCall(RoleAdmin, call) {
			t.Errorf("%s: an agent %v, an admin %v", call, MayCall(RoleAgent, call), MayCall(RoleAdmin, call))
		}
	}
	if MayCall(RoleViewer, "attack") || !MayCall(RoleViewer, "halt") || MayCall(RoleOperator, "token") || MayCall(RoleAdmin, "no such call") {
		t.Error("the ladder has other steps")
	}
}

// decoders are all that reads from the wire.
var decoders = map[string]func([]byte) (any, error){
	"pulse": wire[Pulse], "halt": wire[Halt], "halted": wire[Halted], "presence": wire[Presence], "welcome": wire[Welcome], "answer": wire[Answer],
	"go": wire[Go], "cancel": wire[Cancel], "journal": wire[Journal], "kept": wire[Kept], "join": wire[Join], "joined": wire[Joined],
	"look": wire[Look], "looked": wire[Looked],
	"order": func(text []byte) (any, error) { return Open(text, public(key(0))) },
}

func wire[M Message](text []byte) (any, error) { return Decode[M](text) }

// FuzzWire throws what it likes at every decoder: none may panic, and what one takes it takes again as the same.
func FuzzWire(f *testing.F) {
	order, err := Sign(someOrder(), key(0))
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{string(order), `{"boot":"b","at":"2026-11-29T12:00:00Z","epoch":1}`, `{"id":"` + someID + `","epoch":2,"by":"a"}`,
		`{"at":"2026-11-29T12:00:00Z","running":[{"kind":"cpu","order":"` + someID + `"}],"facts":{"kinds":["cpu"],"tags":{"a":"b"},"zone":"z"}}`,
		`{"order":"` + someID + `","state":"accepted"}`, `{"order":"` + someID + `","from":0,"lines":["{}"],"end":{"why":"x","reverted":true}}`,
		`{"key":"` + someHost + `","name":"web1","signature":"AA=="}`, `{"lines":1}`, `null`, `[]`, `{"facts":{"leash_seconds":1e999}}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for name, decode := range decoders {
			message, err := decode(text)
			if err != nil || name == "order" {
				continue
			}
			again, err := json.Marshal(message)
			if err != nil {
				t.Fatalf("%s cannot be said again: %v", name, err)
			}
			if len(again) > messageMax {
				continue // escapes may make it longer than it came
			}
			second, err := decode(again)
			if err != nil {
				t.Fatalf("%s: %s is not taken again: %v", name, again, err)
			}
			if third, err := json.Marshal(second); err != nil || string(third) != string(again) {
				t.Fatalf("%s: %s, and then %s %v", name, again, third, err)
			}
		}
	})
}

func FuzzToken(f *testing.F) {
	f.Add("fdj.fcwbnZ-No4Z1WN3hUCdo8Scr4AmYz79q.XMYEpTyH_JmazBJOrEy9gErtEsfuXG3i_XJna1NbPhI")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err == nil && token.String() != strings.TrimSpace(text) {
			t.Errorf("%q is read as %q", text, token)
		}
		_, _ = Address(text)
	})
}

func TestLongAnswersComeInParts(t *testing.T) {
	for _, size := range []int{0, 1, PartMax, PartMax + 1, 3*PartMax + 7} {
		text := make([]byte, size)
		for i := range text {
			text[i] = byte(i % 251)
		}
		var whole []byte
		parts := Parts(text)
		for i, part := range parts {
			number, of, err := ReadPartName(PartName(i+1, len(parts)))
			if err != nil || number != i+1 || of != len(parts) || len(part) > PartMax {
				t.Fatalf("%d bytes: part %d of %d with %d bytes, %v", size, number, of, len(part), err)
			}
			whole = append(whole, part...)
		}
		if string(whole) != string(text) {
			t.Errorf("%d bytes: %d came back", size, len(whole))
		}
	}
	for _, wrong := range []string{"0/1", "2/1", "1/0", "1/2 ", "x", "1/1000", "-1/2", "1//2"} {
		if _, _, err := ReadPartName(wrong); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}
