// Command vm boots whole kernels and runs there the tests that the kernel of this machine cannot: netem, control groups of version 2, the
// real clock, a real restart, systemd as the init; and the contract of the network attacks on older and newer kernels.
//
//	go run ./tools/vm [-boots NAME,...] [-v]
//
// The kernels are Debian's, of several releases, fetched by apt into a cache and unpacked there, never installed. The file system is a
// minimal Debian by mmdebstrap, turned into an initramfs together with our test binaries and a small init (tools/vm/init). QEMU emulates
// the processor, so nothing but patience is asked of the machine; one boots at a time.
//
//	packages.go ──▶ kernel, modules, root ──image.go──▶ initramfs ──machine.go──▶ QEMU ──▶ serial ports ──guest.Results──▶ the count
//
// What it never does: change anything of the machine that it runs on, beyond the packages it needs and its cache.
//
// Its invariant: what did not run is a failure: a skipped test, a machine that panics, hangs or says nothing, a boot without a test.
//
// Start reading at boots (boots.go).
package main
