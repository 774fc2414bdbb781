// Package policy holds an attack against the rules that the owner of a host wrote down for it, in /etc/firedrill/policy.yaml.
//
// The file bounds every attack that is started on the host: by root too, and on the order of any control plane. It says which kinds may
// run and which never, what they must always spare, for how long, at which hours, how many at once, and which need a person's consent.
// A host without the file has no bounds.
//
//	file ──Read──▶ Policy ──Admit(Order, now)──▶ nil, or why not, by which line, and the cure
//
// What the package never does: attack, resolve names, or ask a clock. Read does nothing but read; all else is pure.
//
// Its invariant: any doubt is a no. A file that is not root's alone, or is not what we know word by word, refuses every attack; a rule
// that cannot be understood is never a rule that is left out.
//
// It does not defend the host against its own root, who can edit the file. Start reading at Policy and Admit.
package policy
