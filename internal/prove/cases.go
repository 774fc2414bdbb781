package prove

import (
	"bytes"
	"slices"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

var (
	red     = []history.Outcome{history.Failed}
	unknown = []history.Outcome{history.Inconclusive}
	either  = []history.Outcome{history.Failed, history.Inconclusive}
)

const (
	alarmName = `alarm "` // begins the name of the check of an expected alarm
)

// Cases returns every sabotage, the control first.
func Cases() []Case {
	return slices.Concat([]Case{{
		Name: Control, Breaks: "nothing: the drill must pass", Own: true, Want: []history.Outcome{history.Passed},
	}}, alarmCases(), answerCases(), standbyCases(), attackCases(), clientCases(), recordCases())
}

// watchFile is a plant that alters the service file of the watch and starts the watch anew.
func watchFile(expression string) []Plant {
	const file = "/etc/firedrill/firedrill.yaml"
	return []Plant{{
		Host:  "control",
		Break: "set -e; cp " + file + " /tmp/proven.yaml; sed -i '" + expression + "' " + file + "; ! cmp -s " + file + " /tmp/proven.yaml; systemctl restart watch",
		Heal:  "cp /tmp/proven.yaml " + file + "; systemctl restart watch",
	}}
}

// nameServer is a plant that starts the name server anew, with an altered zone or with one more flag.
func nameServer(change, flag string) []Plant {
	const run = "exec firedrill authority --watch http://10.77.0.10:7070 --state /var/lib/firedrill/authority.json --zone "
	return []Plant{{
		Host:  "ns",
		Break: "set -e; sed '" + change + "' /etc/firedrill/zone.yaml > /tmp/zone.yaml; systemctl stop authority",
		While: run + "/tmp/zone.yaml " + flag,
		Heal:  "systemctl start authority",
	}}
}

func alarmCases() []Case {
	return []Case{
		{
			Name: "alarm", Breaks: "the threshold of the database alarm is out of reach", Demo: true, Want: red, Caught: []string{alarmName},
			Plants: watchFile(`s/{metric: db-connectivity, average: "< 1"/{metric: db-connectivity, average: "< -1"/`),
		},
		{
			Name: "alarm-disabled", Breaks: "an expected alarm is disabled in the watch", Own: true, Want: red, Caught: []string{alarmName},
			Needs: []string{drill.ExpectAlarm}, Tamper: holdFirstAlarm,
		},
		{
			Name: "alarm-late", Breaks: "the database alarm waits for 9 datapoints in place of 2", Want: red, Caught: []string{alarmName},
			Plants: watchFile(`s/{metric: db-connectivity, average: "< 1", period: 1s, datapoints: 2 of 2/{metric: db-connectivity, average: "< 1", period: 1s, datapoints: 9 of 9/`),
		},
		{
			Name: "alarm-stuck", Breaks: "an expected alarm never goes back to OK", Own: true, Want: red, Caught: []string{alarmName, "steady state"},
			Needs: []string{drill.ExpectAlarm}, Tamper: holdRaisedAlarm,
		},
		{
			Name: "alarm-wrong-host", Breaks: "the metrics of each host are measured on the other one", Want: either, Caught: []string{alarmName, "no other alarm", "alarms OK before"},
			Plants: watchFile(`s/address: 10.77.1.10, ssh: {user: root}/address: 10.77.1.10, ssh: {user: root, address: 10.77.1.20}/; s/address: 10.77.1.20, ssh: {user: root}/address: 10.77.1.20, ssh: {user: root, address: 10.77.1.10}/`),
		},
		{
			Name: "watch-deaf", Breaks: "no alarm is heard any more once the attack has begun", Own: true, Want: either, Caught: []string{alarmName},
			Needs: []string{drill.ExpectAlarm}, Tamper: func(t *Tamper) {
				t.Seen = func(event history.Event, inForce bool, emit func(history.Event)) {
					if _, is := event.Fact.(*history.Alarm); !is || !inForce {
						emit(event)
					}
				}
			},
		},
		{
			Name: "impossible-limit", Breaks: "everything must be seen within a millisecond", Own: true, Want: red, Caught: []string{alarmName, "answer moves", "clients recover"},
			Needs: []string{drill.ExpectAlarm, drill.ExpectMoves, drill.ExpectRecover}, Service: impossible,
		},
	}
}

func answerCases() []Case {
	return []Case{
		{
			Name: "dns", Breaks: "the name server never moves the answer", Demo: true, Want: red, Caught: []string{"answer moves", "answer of", "clients recover"},
			Plants: nameServer("", "--freeze bookstore.example.test"),
		},
		{
			Name: "record-frozen", Breaks: "the watch never moves the answer", Own: true, Want: red, Caught: []string{"answer moves"},
			Needs: []string{drill.ExpectMoves}, Tamper: holdNames,
		},
		{
			Name: "wrong-health-check", Breaks: "the answer follows only whether the host is up, not what it depends on", Want: red, Caught: []string{"answer moves"},
			Plants: watchFile(`s/unhealthy_when: .*/unhealthy_when: ["{host}-StatusCheckFailed"]/`),
		},
		{
			Name: "ttl", Breaks: "answers may be kept ten times longer than planned", Want: red, Caught: []string{"TTL of"},
			Plants: nameServer(`s/"@": {ttl: 1s/"@": {ttl: 10s/`, ""),
		},
		{
			Name: "flap", Breaks: "the answer moves there, back, and there again", Want: red, Caught: []string{"answer moves"}, Tamper: flap,
		},
		{
			Name: "early-failover", Breaks: "the answer has moved before the attack begins", Want: unknown, Caught: []string{"answer before"}, Tamper: moveFirst,
		},
		{
			Name: "cached-answers", Breaks: "whoever asks the name servers answers from a cache", Own: true, Want: red, Caught: []string{"answer moves"},
			Needs: []string{drill.ExpectMoves}, Tamper: cacheAnswers,
		},
	}
}

func standbyCases() []Case {
	const password = `mkdir -p /etc/bookstore
echo "postgres://bookstore:wrong@db.bookstore.example.test:5432/bookstore?sslmode=disable" > /etc/bookstore/database_url
systemctl restart bookstore`
	return []Case{
		{
			Name: "standby", Breaks: "the standby has a wrong database password", Demo: true, Want: red, Caught: []string{"clients recover", "RTO", "steady state"},
			Plants: []Plant{{
				Host:  "idle",
				While: `until getent hosts "$NAME" | grep -q "^$LIVE_ADDRESS "; do sleep 0.2; done; ` + password + "; exec sleep 3600",
				Heal:  "rm -f /etc/bookstore/database_url; systemctl restart bookstore",
			}},
		},
		{
			Name: "standby-dead", Breaks: "the service on the standby is stopped", Want: unknown, Caught: []string{"admitted", "started"},
			Plants: []Plant{{Host: "idle", Break: "systemctl stop bookstore", Heal: "systemctl start bookstore"}},
		},
		{
			Name: "standby-stale", Breaks: "the standby runs another release than the one that is answered", On: "idle", Want: red, Caught: []string{"same release"},
			Plants: []Plant{{
				Host:  "ci",
				Break: `firedrill deploy --revision main --file /etc/firedrill/firedrill.yaml --out /tmp/stale "$IDLE"`,
				Heal:  `firedrill deploy --revision v6 --file /etc/firedrill/firedrill.yaml --out /tmp/stale "$IDLE"`,
			}},
		},
		{
			Name: "own-clock", Breaks: "alarm and answer are done in time, but the standby serves nobody for a long while: what a tool that times its own actions does not see",
			Want: red, Caught: []string{"clients recover", "RTO"}, Tamper: freezeStandby,
		},
		{
			Name: "unsteady", Breaks: "the standby has lost its database before the drill begins", On: "active", Want: unknown, Caught: []string{"alarms OK before", "steady before"},
			Service: hurry,
			Plants: []Plant{{
				Host:  "idle",
				Break: "(firedrill attack blackhole --length 60 --hostname db.bookstore.example.test </dev/null >/dev/null 2>&1 &) ; sleep 4",
				Heal:  "firedrill halt",
			}},
		},
	}
}

func attackCases() []Case {
	return []Case{
		{
			Name: "attack", Breaks: "the attack is aimed at an address that nobody uses", Own: true, Demo: true, Want: unknown, Caught: []string{"packets dropped", "felt on", "canary", "bit on"},
			Service: aimAtNobody,
		},
		{
			Name: "attack-half", Breaks: "the attack hits only a part of what it is to hit", Want: unknown, Caught: []string{"canary"},
			Tamper: func(t *Tamper) {
				t.Order = func(host drill.Host, order drill.Order) (drill.Host, drill.Order) {
					return host, withArgs(order, func(arg string) string {
						return replaceAll(arg, ",db.bookstore.example.test", "")
					})
				}
			},
		},
		{
			Name: "attack-short", Breaks: "the attack ends before anything could be seen", Own: true, Want: unknown, Caught: []string{alarmName, "answer moves", "canary", "ran to its end", "packets dropped"},
			Needs: []string{drill.ExpectAlarm, drill.ExpectMoves}, Tamper: func(t *Tamper) { t.Length = shortAttack },
		},
		{
			Name: "attack-wrong-host", Breaks: "a host of the other environment is attacked", Want: either, Caught: []string{"in force on"},
			Tamper: func(t *Tamper) {
				t.Order = func(_ drill.Host, order drill.Order) (drill.Host, drill.Order) { return t.Other().Hosts[0], order }
			},
		},
		{
			Name: "spare-hit", Breaks: "the attack hits the watch, which is to be spared", Want: either, Caught: []string{"spared on"},
			Tamper: func(t *Tamper) {
				t.Order = func(host drill.Host, order drill.Order) (drill.Host, drill.Order) {
					return host, withArgs(order, func(arg string) string { return replaceAll(arg, "^", "") })
				}
			},
		},
		{
			Name: "revert-leaves", Breaks: "something of the attack stays in force after its end", Want: red, Caught: []string{"reverted on"}, Tamper: leaveSomething,
			Plants: []Plant{{Host: "live", Heal: "firedrill halt"}, {Host: "idle", Heal: "firedrill halt"}},
		},
	}
}

func clientCases() []Case {
	return []Case{
		{
			Name: "cached-monitor", Breaks: "a client answers from its cache when the service does not", Own: true, Want: red, Caught: []string{"follows the answer"},
			Needs: []string{drill.ExpectMoves}, Tamper: cacheSamples,
		},
		{
			Name: "clients-silent", Breaks: "the clients do not sample while the attack is in force", Own: true, Want: either, Caught: []string{"clients recover", "clients see no failure", "RTO", "steady state", "steady after"},
			Needs: []string{drill.ExpectRecover, drill.ExpectNoFailure}, Tamper: func(t *Tamper) {
				t.Seen = func(event history.Event, inForce bool, emit func(history.Event)) {
					if !isClient(t.Plan, event) || !inForce {
						emit(event)
					}
				}
			},
		},
		{
			Name: "clients-late", Breaks: "the clients sample three seconds late while the attack is in force", Own: true, Want: either, Caught: []string{"clients recover", "clients see no failure", "RTO"},
			Needs: []string{drill.ExpectRecover, drill.ExpectNoFailure}, Tamper: func(t *Tamper) {
				t.Seen = func(event history.Event, inForce bool, emit func(history.Event)) {
					if isClient(t.Plan, event) && inForce {
						late := *event.Fact.(*history.Sample)
						late.Lag += lateSample
						event.Fact = &late
					}
					emit(event)
				}
			},
		},
	}
}

func recordCases() []Case {
	return []Case{
		{
			Name: "ledger-blind", Breaks: "the ledger counts nothing as acknowledged", Own: true, Want: unknown, Caught: []string{"no acknowledged write", "RPO"},
			Needs: []string{drill.ExpectNoLoss}, Tamper: func(t *Tamper) {
				t.Counted = func(count *history.Ledger) { count.Acked, count.Lost = 0, 0 }
			},
		},
		{
			Name: "ledger-unread", Breaks: "the ledger is never read back", Own: true, Want: unknown, Caught: []string{"no acknowledged write", "RPO"},
			Needs: []string{drill.ExpectNoLoss}, Tamper: func(t *Tamper) {
				t.Counted = func(count *history.Ledger) { count.Unread = "nobody looked" }
			},
		},
		{
			Name: "log-gap", Breaks: "a line is cut out of the log", Own: true, Want: unknown, Caught: []string{"hash chain of the log"}, Log: cutLine,
		},
	}
}

// cutLine takes the line in the middle away.
func cutLine(log []byte) []byte {
	lines := bytes.SplitAfter(log, []byte("\n"))
	middle := len(lines) / 2
	return bytes.Join(slices.Delete(lines, middle, middle+1), nil)
}
