.PHONY: vuln mutants kills race package package-test mutation ci-engines build quick test vm bench lint man

build: ## one static binary
	go run ./tools/build

quick: ## for yourself, in under a minute: no root, no packages
	go run ./tools/gate -quick

test: ## the gate: installs what it needs, runs everything, prints a count
	go run ./tools/gate

vm: ## Debian's kernels in QEMU: netem, cgroup v2, the real clock and real restarts; gets kernels by apt, counts like the gate
	go run ./tools/vm

bench: ## figures as ratios to a peer in the same run
	go test -run '^$$' -bench . -benchtime 1x ./internal/...

lint:
	gofmt -l . && go vet ./...

mutants: ## changes the deciders on purpose, and counts what their tests notice: at least 90 %; minutes, not part of the gate; figures in docs/mutants.md
	go run ./tools/mutants alarm guard verdict

mutation: ## the same, by gremlins alone, which builds each change by itself: hours
	for package in alarm guard verdict; do \
		go run github.com/go-gremlins/gremlins/cmd/gremlins@v0.6.0 unleash --workers 1 --timeout-coefficient 30 --exclude-files verdicttest --threshold-efficacy 90 ./internal/$$package || exit 1; \
	done

man: ## the manual pages, from the same commands that answer --help
	go run ./tools/man

kills: ## servers, agents and NATS nodes killed at random, 200 times, while runs are carried out: half an hour, not part of the gate; figures in docs/fleet.md
	FIREDRILL_KILLS=200 go test -count=1 -timeout=60m -v -run TestNothingIsLostOrDoneTwiceWhateverIsKilled ./internal/fleet/fleettest

race: ## the packages whose goroutines share state, with the race detector (cgo: gcc and libc6-dev): ten minutes, of which the gate does the short ones
	GORACE=atexit_sleep_ms=0 go test -race -count=1 -p=1 -timeout=40m ./internal/fleet/... ./internal/conductor ./internal/guard ./internal/watch ./internal/probe ./internal/failover/... ./internal/deploy/remote/remotetest ./internal/attack/worker/... ./internal/web/...

vuln: ## known vulnerabilities in what the program calls, by govulncheck and today's database through the module proxy; minutes, not part of the gate
	go run ./tools/vuln

ci-engines: ## the wiring of ci/ in the engines of GitHub Actions, GitLab CI and (on groovy) Jenkins; gets the first two through the Go proxy and npm
	FIREDRILL_REQUIRE=act,gitlab,groovy go test -tags engines -count=1 -timeout=60m ./ci

VERSION ?= $(shell git describe --tags --match 'v[0-9]*' 2>/dev/null | sed 's/^v//' | grep . || git show -s --date=format:%Y%m%d --format=0.0~git%cd.%h)

package: export GOTOOLCHAIN = auto
package: build ## firedrill_VERSION_amd64.deb, firedrill-VERSION.x86_64.rpm and firedrill_VERSION_x86_64.apk, in packages/
	mkdir -p packages/completions
	./firedrill completion bash >packages/completions/firedrill
	./firedrill completion zsh >packages/completions/_firedrill
	./firedrill completion fish >packages/completions/firedrill.fish
	for kind in deb rpm apk; do \
		VERSION='$(VERSION)' go run github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0 package --config packaging/nfpm.yaml --packager $$kind --target packages || exit 1; \
	done

package-test: package ## installs, uses, upgrades and removes them, as root in a copy of this machine's files
	go test -tags packages -count=1 ./packaging
