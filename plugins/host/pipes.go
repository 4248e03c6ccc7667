package host

import (
	"errors"
	"os"
)

// pipe is one pipe, whose ends are closed on exec.
type pipe struct{ r, w *os.File }

// pipes connect the sidecar with a supervisor and a plugin.
type pipes struct {
	out, err pipe // the plugin's standard output and error
	life     pipe // instructions for the supervisor; its end is the sidecar's
	status   pipe // why the plugin could not be run
}

func newPipes() (*pipes, error) {
	p := new(pipes)
	for _, one := range p.all() {
		var err error
		if one.r, one.w, err = os.Pipe(); err != nil {
			p.close()
			return nil, errors.Join(errors.New("too few file descriptors to start a plugin"), err)
		}
	}
	return p, nil
}

func (p *pipes) all() []*pipe { return []*pipe{&p.out, &p.err, &p.life, &p.status} }

func (p *pipes) close() {
	for _, one := range p.all() {
		if one.r != nil {
			one.r.Close()
			one.w.Close()
		}
	}
}
