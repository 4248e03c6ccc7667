//go:build !linux

package main

func (d *doctor) examineMemory() {
	d.say(severityUnseen, "memory", "look at how the sidecar is started: its memory should be kept out of swap", "this system does not tell whether the sidecar's memory is locked")
}

func (d *doctor) examineClock() {
	d.say(severityUnseen, "clock", "look at the time service of this system", "this system does not tell whether its clock is synchronised")
}
