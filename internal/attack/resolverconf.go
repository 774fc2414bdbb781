package attack

import (
	"os"
	"strconv"
	"strings"
)

// resolverConf is what we follow of resolv.conf(5).
type resolverConf struct {
	servers []string // addresses
	search  []string
	ndots   int // names with at least so many dots are asked for as they are first
}

const ndotsMax = 15 // as the C library has it

func readResolverConf(path string) (resolverConf, error) {
	conf := resolverConf{ndots: 1}
	text, err := os.ReadFile(path)
	if err != nil {
		return conf, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			conf.servers = append(conf.servers, fields[1])
		case "domain":
			conf.search = fields[1:2]
		case "search":
			conf.search = fields[1:]
		case "options":
			for _, option := range fields[1:] {
				if number, found := strings.CutPrefix(option, "ndots:"); found {
					if n, err := strconv.Atoi(number); err == nil {
						conf.ndots = min(max(n, 0), ndotsMax)
					}
				}
			}
		}
	}
	return conf, nil
}

// fullNames lists what to ask for, in this order, when a person says name.
func (c resolverConf) fullNames(name string) []string {
	if strings.HasSuffix(name, ".") {
		return []string{name}
	}
	var names []string
	for _, domain := range c.search {
		names = append(names, name+"."+strings.TrimSuffix(domain, ".")+".")
	}
	if strings.Count(name, ".") >= c.ndots {
		return append([]string{name + "."}, names...)
	}
	return append(names, name+".")
}
