// Package processkiller ends processes, again and again for the length of the attack, so that whoever is to restart them must do it.
//
// A process that was killed is not brought back by us: that is for its supervisor, and what a drill wants to see. Nothing else remains: when
// we die or freeze no further process is killed, and that is why there is neither journal nor guardian here.
//
// What it never does: kill parts of the kernel, us, our ancestors or another attack; process 1 and sshd without a person's consent (--yes);
// or a process that only has the number of the one that was meant.
//
// Its invariant: each signal goes through a handle that was checked to be that of a process that matched.
//
// Start reading at Order, then step.
package processkiller
