//go:build !linux

package main

func (d *doctor) examineMemory() {
	d.say(severityUnseen, "memory", "", "this system does not tell whether the sidecar's memory is locked")
}

func (d *doctor) examineClock() {
	d.say(severityUnseen, "clock", "", "this system does not tell whether its clock is synchronised")
}
