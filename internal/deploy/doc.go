// Package deploy publishes a release to the hosts of an environment over SSH, switches to it, and goes back when it is not healthy.
//
// On a host, the directory of a service looks like this:
//
//	releases/20260102T150405.123Z-1f2e3d4c5b6a/   one whole release, with a file REVISION
//	releases/.tmp-...                         an upload under way; removed at the next start
//	shared/                                   what outlives releases; ours only to create
//	current -> releases/...                   what the service runs
//	revisions.log                             which release was found healthy when; only appended to
//	.lock                                     held by the kernel while someone deploys
//	reserved.json                             who keeps others away, why and until when (reserve.go)
//	.seal, .seal-names                        that nobody has touched the release that runs since it was compared (seal.go)
//
// A release holds .firedrill-digests too: with what it was published. The next deployment copies on the host what is the same there, sends
// the rest, and believes neither: every digest is computed again before the release gets its name. Where all is the same, the release that
// runs is compared and stays; for a day after a comparison, inode, size, mode and change time of every file stand for its digest.
//
// With `layout: in-place` the files stand straight in the directory, as Publish Over SSH puts them, with a backup to go back to (inplace.go).
//
// It never changes a release after it was published, never prunes the release that runs or the one to go back to, and never touches
// DNS: which environment is answered is not its business.
//
// Its invariant: at every instant, whatever is killed or cut, `current` leads to one whole release whose every file had the digest
// that it has here. In place that holds for each file, and for all of them when a deployment has ended or was taken back.
//
// Every host has the release before any is switched; then they are switched in batches. Start reading at Run (deploy.go), then publish.go,
// manifest.go, source.go and seal.go. Everything on the host goes through deploy/remote.
package deploy
