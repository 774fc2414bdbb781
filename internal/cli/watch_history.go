//go:build !hostpart

package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

type watchHistoryOptions struct {
	file, since string
	kinds       []string
	names       []string
	asJSON      bool
}

func newWatchHistoryCommand(s streams) *cobra.Command {
	var options watchHistoryOptions
	command := &cobra.Command{
		Use:   "history",
		Short: "Show how alarms, answers and hosts have moved, and why",
		Args:  cobra.NoArgs,
		Long: `Asks the watch of the service file for what it remembers: moves of alarms with their reasons, of answers and of hosts, oldest first: with
firedrill watch --state all that its history file keeps, over restarts; else the last 10,000 since it was started. With --json each is the event itself, with the data of the reason in the form that CloudWatch gives it.

EXIT STATUS
  0    printed
  2    usage, or the service file is wrong
  3    the watch could not be asked`,
		Example: "  firedrill watch history --since 1h --kind alarm\n  firedrill watch history --name bookstore-api-blue-StatusCheckFailed --json",
		RunE: func(command *cobra.Command, _ []string) error {
			return watchHistory(command.Context(), s, options, time.Now())
		},
	}
	flags := command.Flags()
	flags.StringVar(&options.file, "file", "firedrill.yaml", "service file")
	flags.StringVar(&options.since, "since", "", "how far back: a length such as 2h, or a time such as 2026-01-02T15:04:05Z (default: everything)")
	flags.StringSliceVar(&options.kinds, "kind", nil, "only these: alarm, answer, host (default: all)")
	flags.StringSliceVar(&options.names, "name", nil, "only alarms, names or hosts called so (may be repeated)")
	flags.BoolVar(&options.asJSON, "json", false, "print events as JSON lines")
	flags.Bool("help", false, "show this help")
	_ = command.MarkFlagFilename("file", "yaml", "yml")                                                                                             // fails only for a flag that is not defined
	_ = command.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions([]string{"alarm", "answer", "host"}, cobra.ShellCompDirectiveNoFileComp)) // likewise
	return command
}

// sinceOf reads a length or a time.
func sinceOf(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if length, err := drill.ParseSeconds(text); err == nil {
		return now.Add(-length.Duration()), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, &drill.Error{Op: "watch history", Kind: drill.Invalid, Err: fmt.Errorf("--since %q is neither a length nor a time", text), Hint: "Write one such as 2h or 2026-01-02T15:04:05Z."}
	}
	return at, nil
}

func watchHistory(ctx context.Context, s streams, options watchHistoryOptions, now time.Time) error {
	const op = "watch history"
	service, err := loadService(options.file)
	if err != nil {
		return err
	}
	if service.Watch == nil {
		return &drill.Error{Op: op, Kind: drill.Invalid, Err: errors.New("the service file names no watch"), Hint: "Add watch: {url: ...} to the service file."}
	}
	since, err := sinceOf(options.since, now)
	if err != nil {
		return err
	}
	known := []string{"alarm", "answer", "host"}
	for _, kind := range options.kinds {
		if !slices.Contains(known, kind) {
			return &drill.Error{Op: op, Kind: drill.Invalid, Err: fmt.Errorf("--kind %q is not known", kind), Hint: drill.Suggest(kind, known)}
		}
	}
	query := url.Values{}
	if len(options.kinds) > 0 {
		query.Set("kinds", strings.Join(options.kinds, ","))
	}
	if !since.IsZero() {
		query.Set("since", since.UTC().Format(time.RFC3339))
	}
	ctx, cancel := context.WithTimeout(ctx, watchAnswerMax)
	defer cancel()
	unreachable := func(err error) error {
		return &drill.Error{Op: op, Kind: drill.Unreachable, Err: err, Hint: "Is the watch running at " + service.Watch.URL + "?"}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(service.Watch.URL, "/")+"/v1/history?"+query.Encode(), http.NoBody)
	if err != nil {
		return unreachable(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return unreachable(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return unreachable(errors.New(response.Status))
	}
	events, err := readHistory(response.Body)
	if err != nil {
		return unreachable(err)
	}
	events = slices.DeleteFunc(events, func(e history.Event) bool {
		return e.At.Before(since) || (len(options.names) > 0 && !slices.Contains(options.names, calledOf(e)))
	})
	if options.asJSON {
		for _, event := range events {
			if err := printLine(s, event); err != nil {
				return err
			}
		}
		return nil
	}
	return printHistory(s, events)
}

// readHistory reads JSON lines to their end: an answer that was cut short is an error, and no short history.
func readHistory(from io.Reader) ([]history.Event, error) {
	var all []history.Event
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, watchLineMax)
	for lines.Scan() {
		var event history.Event
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			return nil, err
		}
		all = append(all, event)
	}
	return all, lines.Err()
}

// calledOf returns the name of the alarm, the failover name or the host that an event is about.
func calledOf(event history.Event) string {
	switch fact := event.Fact.(type) {
	case *history.Alarm:
		return fact.Name
	case *history.Answer:
		return fact.Name
	case *history.Host:
		return fact.Host
	}
	return ""
}

func printHistory(s streams, events []history.Event) error {
	table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	for _, event := range events {
		move, why := "", ""
		switch fact := event.Fact.(type) {
		case *history.Alarm:
			move, why = fact.From+" -> "+fact.To, fact.Reason
			if fact.Origin != "" {
				why += " (" + fact.Origin + ")"
			}
		case *history.Answer:
			move, why = "leads to "+strings.Trim(fact.Environment+" "+strings.Join(fact.Addresses, " "), " "), fact.Reason
		case *history.Host:
			move, why = map[bool]string{true: "up", false: "down"}[fact.Up], fact.Detail
		default:
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", event.At.UTC().Format("2006-01-02T15:04:05.000Z"), calledOf(event), move, why)
	}
	return table.Flush()
}
