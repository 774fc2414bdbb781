// Command vuln looks for known vulnerabilities in what the program calls: in its own modules and in the standard library of the Go that go.mod names
// ("toolchain"), with which packages are built.
//
//	go run ./tools/vuln
//
// It is Go's own govulncheck with Go's own database, which comes as a module through the module proxy, so it works wherever a build works. Each finding
// whose code is called must be mended, or stand with its reason in the file "explained"; a reason for something that is not found any more is an error as
// well. What is only in a required module and never called is printed, and fails nothing.
package main
