// Package whole has tests of the built program on a whole machine: they set its clock, restart it and switch it off. It holds nothing else.
//
// They are built with the tag vm, and refuse to run anywhere but on a machine of tools/vm. A test that takes the machine down is started
// again when the machine is up: it keeps on the disk how far it came (stage), and its last start gives the verdict.
//
// Its invariant: no test here passes because the machine went down.
//
// Start reading at program (program_test.go), then clock_test.go and restart_test.go.
package whole
