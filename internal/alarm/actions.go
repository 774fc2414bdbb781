package alarm

import "time"

// Why the actions of an alarm are not carried out; the words are those of CloudWatch's history.
const (
	SuppressedByAlarm     = "Alarm"
	SuppressedByWait      = "WaitPeriod"
	SuppressedByExtension = "ExtensionPeriod"
)

// Suppression keeps the actions of an alarm back while another alarm is raised, as during a drill: the alarm itself goes on moving.
type Suppression struct {
	Wait      time.Duration // how long an action waits for the suppressor to be raised, 0 or more
	Extension time.Duration // how long actions stay suppressed after the suppressor has cleared, 0 or more
}

// Pending is where the actions of one alarm stand. The zero value is an alarm without any action due. It is a value: each step returns the
// next one.
type Pending struct {
	State State     // the state whose actions are due; "" for none
	By    string    // why they are held back; "" when they are not
	Until time.Time // when the hold ends by itself; zero while the suppressor is raised

	extended time.Time // end of the extension after the suppressor cleared
}

// Due says that the actions of an alarm in State are to be carried out now.
type Due struct {
	State State
}

// Moved tells that the alarm has gone to a state at now, with the suppressor raised or not. The actions are due at once, or are held back.
func (s Suppression) Moved(p Pending, to State, suppressor bool, now time.Time) (Pending, *Due) {
	p.State = to
	switch {
	case suppressor:
		p.By, p.Until = SuppressedByAlarm, time.Time{}
	case now.Before(p.extended):
		p.By, p.Until = SuppressedByExtension, p.extended
	case s.Wait > 0:
		p.By, p.Until = SuppressedByWait, now.Add(s.Wait)
	default:
		return p.carriedOut()
	}
	return p, nil
}

// Suppressor tells that the suppressor was raised, or has cleared, at now.
func (s Suppression) Suppressor(p Pending, raised bool, now time.Time) (Pending, *Due) {
	if raised {
		p.extended = time.Time{}
		if p.State != "" {
			p.By, p.Until = SuppressedByAlarm, time.Time{}
		}
		return p, nil
	}
	p.extended = now.Add(s.Extension)
	switch {
	case p.State == "" || p.By != SuppressedByAlarm:
		return p, nil
	case s.Extension > 0:
		p.By, p.Until = SuppressedByExtension, p.extended
		return p, nil
	}
	return p.carriedOut()
}

// Passed tells that time has come to now. What was held back is due when the hold has ended: for the state that the alarm is in then.
func (Suppression) Passed(p Pending, now time.Time) (Pending, *Due) {
	if p.State == "" || p.Until.IsZero() || now.Before(p.Until) {
		return p, nil
	}
	return p.carriedOut()
}

func (p Pending) carriedOut() (Pending, *Due) {
	due := &Due{State: p.State}
	p.State, p.By, p.Until = "", "", time.Time{}
	return p, due
}
