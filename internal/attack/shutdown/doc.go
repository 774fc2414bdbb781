// Package shutdown takes the whole host down, after a delay in which it can still be called off.
//
// It is one-way: nothing takes it back but whoever starts the host again. Where systemd is the init, systemd is asked, so that services
// stop in order: logind over D-Bus, which lets ordinary users too where the host does, then systemctl, then /sbin/shutdown; elsewhere, as in a host of a lab, the file systems are synced and the kernel is told by reboot(2), which in a PID
// namespace ends that namespace only.
//
// Its invariant: until the delay is over, nothing was changed.
//
// Start reading at Order.
package shutdown
