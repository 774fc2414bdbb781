//go:build !attackpart

package drill

import (
	"fmt"
	"time"
)

// ServiceLevel is a service level objective: what share of requests must be good over a long window. What may fail is the error budget, and
// a drill may spend a part of it.
type ServiceLevel struct {
	Target Percent    `yaml:"target,required" json:"target"`    // share of good client samples, as 99.9%
	Window Seconds    `yaml:"window" json:"window_seconds"`     // default 30d
	Drill  Percent    `yaml:"drill_budget" json:"drill_budget"` // share of the budget that one drill may spend, default 2%
	Burn   []BurnRule `yaml:"burn" json:"burn,omitempty"`       // stops an attack that burns the budget too fast
}

// BurnRule stops an attack when the budget is burnt faster than Rate over the long and over the short window: the long one keeps a single
// failure from stopping it, the short one lets it go on once all is well again. At rate 1 the budget lasts exactly the objective's window.
type BurnRule struct {
	Rate  float64 `yaml:"rate,required" json:"rate"`
	Long  Seconds `yaml:"long,required" json:"long_seconds"`
	Short Seconds `yaml:"short" json:"short_seconds"` // default a twelfth of long
}

const (
	levelWindowDefault = Seconds(30 * 24 * time.Hour)
	levelDrillDefault  = Percent(2)
	burnLongMax        = Seconds(10 * time.Minute) // a drill is no longer
	shortShare         = 12                        // of the long window, as the SRE workbook has it
)

// Budget is how long clients may be unserved over the window.
func (l ServiceLevel) Budget() time.Duration {
	return time.Duration(float64(l.Window) * (100 - float64(l.Target)) / 100)
}

// DrillBudget is how much of that one drill may spend.
func (l ServiceLevel) DrillBudget() time.Duration {
	return time.Duration(float64(l.Budget()) * float64(l.Drill) / 100)
}

func (s *Service) fillLevel() {
	level := s.Objectives.Level
	if level == nil {
		return
	}
	orDefault(&level.Window, levelWindowDefault)
	orDefault(&level.Drill, levelDrillDefault)
	for i := range level.Burn {
		orDefault(&level.Burn[i].Short, level.Burn[i].Long/shortShare)
	}
}

func (c *checker) level() {
	level := c.service.Objectives.Level
	if level == nil {
		return
	}
	const path = "objectives.level"
	if level.Target <= 0 || level.Target >= 100 {
		c.mistake(path+".target", "%g%% leaves no budget to spend, or promises nothing; write one such as 99.9%%", float64(level.Target))
	}
	if len(c.service.Clients) == 0 {
		c.mistake(path, "is measured by clients, and there are none; add clients:")
	}
	for i, burn := range level.Burn {
		at := fmt.Sprintf("%s.burn[%d]", path, i)
		if most := 100 / (100 - float64(level.Target)); burn.Rate <= 0 || burn.Rate > most {
			c.mistake(at+".rate", "%g can never be exceeded, or always is: if all requests fail the budget burns at %.0f", burn.Rate, most)
		}
		if burn.Long > burnLongMax || burn.Short <= 0 || burn.Short >= burn.Long {
			c.mistake(at, "the short window must be shorter than the long one, and that at most %s", burnLongMax)
		}
		for _, client := range c.service.Clients {
			if burn.Short < 3*client.Every {
				c.mistake(at+".short", "%s holds fewer than three samples of %s, which samples every %s", burn.Short, client.Name, client.Every)
			}
			if burn.Long > client.Every*6000 {
				c.mistake(at+".long", "%s is longer than what is kept of %s: %s", burn.Long, client.Name, client.Every*6000)
			}
		}
	}
}
