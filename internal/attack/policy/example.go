package policy

// Example is a policy file with every rule, for the reference page; a test reads it.
const Example = `kinds: [blackhole, process_killer] # only these; left out: all kinds of attacks
deny: [shutdown]                  # never these, whatever kinds says; "all" closes the host
never_hit:                        # every network attack spares these, as if they were written there with ^
  - 10.0.0.0/24
  - control.example.test          # resolved at each attack; when that fails nothing is attacked
max_length: 10m                   # of the impact
max_parallel: 1                   # attacks at the same time
require_consent: [process_killer] # these need --yes
narrow_only: [blackhole]          # these only with --user, --cgroup, --process, --container or --pod; "all" for every network attack
users: [www-data]                 # --user may name only these, as they are written here
pod_namespaces: [shop, staging]   # --pod may hit only pods of these, and --container nothing
clients:                          # what a fleet may have this host look at as a client of it; left out: nothing
  - shop.example.test             # by this name, wherever it leads
  - 10.1.0.0/16                   # or what lies in this network
time_zone: Europe/Berlin          # of hours and freezes, by name
hours:                            # the impact lies within these from begin to end, by the wall clock
  - Mon-Fri 09:00-15:00
  - Sat 22:00-02:00               # over midnight, into Sunday
freezes:                          # and touches none of these days
  - 2026-12-18..2027-01-04
`
