package lab

// Reexec makes this process the part of a lab that it was started as, and then does not return. In all other processes it returns at once.
// A program that calls Up calls it first thing in main, or in TestMain.
func Reexec() {}
