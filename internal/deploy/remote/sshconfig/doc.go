// Package sshconfig reads OpenSSH's client configuration files the way ssh(1) evaluates them for one host: Host, Match with all its
// criteria, Include, canonical host names, tokens.
//
// It never connects anywhere, and it knows no defaults: what no file states is empty. The only programs that it starts are those of
// Match exec, which are the user's own and take part in deciding.
//
// Its invariant: for a file that ssh(1) accepts, every setting is what `ssh -G` prints; a test asks it. A file that it cannot
// evaluate is an error with its line, never a guess: a block taken wrongly could send a key to the wrong host.
//
// Start reading at Resolve (resolve.go), then lines.go, match.go and tokens.go.
package sshconfig
