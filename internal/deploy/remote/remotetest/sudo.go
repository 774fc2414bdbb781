package remotetest

// Sudo is how sudo treats the user of a test.
type Sudo struct{}
