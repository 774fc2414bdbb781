package ready

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"firedrill/internal/drill"
)

// Add returns the text of a service file with the drill below its drills:, and everything else as it was, comments too. file is its name in
// error messages.
func (d Drill) Add(text []byte, file string, choices Choices) ([]byte, error) {
	service, err := drill.ParseService(text, file)
	if err != nil {
		return nil, err
	}
	for _, known := range service.Drills {
		if known.Name == d.Name {
			return nil, &drill.Error{Op: "drills add " + d.Name, Kind: drill.Refused, Err: fmt.Errorf("%s has a drill of this name", file), Hint: "Rename or remove that one first."}
		}
	}
	filled, err := d.Fill(service, choices)
	if err != nil {
		return nil, err
	}
	added, err := insert(string(text), filled)
	if err != nil {
		return nil, err
	}
	if _, err := drill.ParseService([]byte(added), file); err != nil {
		return nil, &drill.Error{Op: "drills add " + d.Name, Kind: drill.Internal, Err: err, Hint: "Copy it by hand from: firedrill drills show " + d.Name}
	}
	return []byte(added), nil
}

// insert puts the YAML of a drill at the end of drills:, in its indentation; it begins drills: where there is none.
func insert(text, filled string) (string, error) {
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		return "", err
	}
	root := document.Content[0]
	lines := strings.SplitAfter(strings.TrimRight(text, "\n")+"\n", "\n")
	lines = lines[:len(lines)-1]
	at, indent := len(lines), "  "
	begin := "\ndrills:\n"
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value != "drills" {
			continue
		}
		begin = ""
		if value := root.Content[i+1]; value.Style&yaml.FlowStyle != 0 {
			return "", &drill.Error{Op: "drills add", Kind: drill.Unsupported, Err: fmt.Errorf("drills: is written on one line, in braces"), Hint: "Write it over several lines, or copy the drill by hand: firedrill drills show"}
		} else if len(value.Content) > 0 {
			indent = strings.Repeat(" ", value.Content[0].Column-1)
		}
		if i+2 < len(root.Content) {
			at = root.Content[i+2].Line - 1
			// Comments and empty lines above the next part belong to it.
			for at > 0 && (strings.TrimSpace(lines[at-1]) == "" || strings.HasPrefix(lines[at-1], "#")) {
				at--
			}
		}
	}
	var block strings.Builder
	block.WriteString(begin)
	for line := range strings.Lines(filled) {
		if strings.TrimSpace(line) != "" {
			block.WriteString(indent)
		}
		block.WriteString(line)
	}
	return strings.Join(lines[:at], "") + block.String() + strings.Join(lines[at:], ""), nil
}
