package httpapi

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strings"
	"unicode"

	"firedrill/internal/fleet"
)

const callHalt = "halt"

// reasonMax is how many letters of a reason are kept: the lever is on every page.
const reasonMax = 300

// notMeant is why a call to halt is answered and not followed.
type notMeant string

// Error implements error.
func (n notMeant) Error() string { return string(n) }

// alarmed is what monitoring says in a webhook, as far as a halt has use for it: the form of Prometheus' Alertmanager, which Grafana has too, and the
// words under which others have a text.
type alarmed struct {
	Reason      string            `json:"reason"`
	Status      string            `json:"status"`
	Labels      map[string]string `json:"commonLabels"`
	Annotations map[string]string `json:"commonAnnotations"`
	Title       string            `json:"title"`
	Message     string            `json:"message"`
	Alerts      []struct {
		Status      string            `json:"status"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"alerts"`
}

// haltFor makes the request to halt out of whatever a webhook has for a body. Nothing about a body is a reason not to halt, but one thing: that of an alarm
// which says of itself, and of each of its parts, that it is over.
func haltFor(_ *http.Request, body []byte) ([]byte, error) {
	var said alarmed
	if json.Unmarshal(body, &said) != nil {
		said = alarmed{} // of half a text nothing is believed
	}
	if said.over() {
		return nil, notMeant("the alarm is over: nothing is halted, and the lever stays as it is")
	}
	return json.Marshal(fleet.HaltRequest{Reason: short(said.why())})
}

func (a alarmed) over() bool {
	if a.Reason != "" || a.Status != "resolved" || len(a.Alerts) == 0 {
		return false
	}
	for _, alert := range a.Alerts {
		if alert.Status != "resolved" {
			return false
		}
	}
	return true
}

func (a alarmed) why() string {
	if a.Reason != "" {
		return a.Reason
	}
	name, text := a.Labels["alertname"], cmp.Or(a.Annotations["summary"], a.Annotations["description"])
	for _, alert := range a.Alerts {
		if alert.Status == "firing" { // the first of several that have no common text
			name, text = cmp.Or(name, alert.Labels["alertname"]), cmp.Or(text, alert.Annotations["summary"], alert.Annotations["description"])
			break
		}
	}
	if name != "" && text != "" {
		return "alarm " + name + ": " + text
	}
	if name != "" {
		return "alarm " + name
	}
	return cmp.Or(text, a.Title, a.Message)
}

// short makes one line of at most reasonMax letters.
func short(text string) string {
	letters := []rune(strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " "))
	if len(letters) > reasonMax {
		return string(letters[:reasonMax-1]) + "…"
	}
	return string(letters)
}
