package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/sidevault/sidevault/vault/secret"
)

// maxSecret is how much is read of a value. The sidecar takes less; what is
// longer is refused there, with the limit in the message.
const maxSecret = 128 << 10

// secretInput reads secrets from where they may come from.
type secretInput struct {
	sh          *shell
	keepNewline bool
	used        bool // standard input was read to its end
}

// fields reads the values of fields, each NAME=@FILE or NAME=-.
func (s *secretInput) fields(specs []string) (map[string]secret.Value, error) {
	fields := make(map[string]secret.Value, len(specs))
	for _, spec := range specs {
		name, source, err := splitField(spec)
		if err != nil {
			return nil, err
		}
		if _, twice := fields[name]; twice {
			return nil, usagef("the field %q is given twice", name)
		}
		if fields[name], err = s.read(name, source); err != nil {
			return nil, err
		}
	}
	return fields, nil
}

// read reads one value: @FILE, or - for standard input or a prompt.
func (s *secretInput) read(name, source string) (secret.Value, error) {
	if path, isFile := strings.CutPrefix(source, "@"); isFile {
		f, err := os.Open(path)
		if err != nil {
			return secret.Value{}, usagef("read the %s", name).because(err)
		}
		defer f.Close()
		return s.drain(name, f)
	}
	if isTerminal(s.sh.in) {
		return s.prompt(name)
	}
	if s.used {
		return secret.Value{}, usagef("standard input can be read for one field only").hinted("give the others as NAME=@FILE")
	}
	s.used = true
	return s.drain(name, s.sh.in)
}

func (s *secretInput) drain(name string, r io.Reader) (secret.Value, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSecret+1))
	defer clear(data)
	if err != nil {
		return secret.Value{}, failf(exitError, "read the %s", name).because(err)
	}
	if len(data) > maxSecret {
		return secret.Value{}, usagef("the %s is longer than %d bytes", name, maxSecret)
	}
	plain := data
	if !s.keepNewline {
		if line, cut := bytes.CutSuffix(plain, []byte("\n")); cut {
			plain = bytes.TrimSuffix(line, []byte("\r"))
		}
	}
	return s.checked(name, plain)
}

func (s *secretInput) checked(name string, plain []byte) (secret.Value, error) {
	if len(plain) == 0 {
		return secret.Value{}, usagef("the %s is empty", name).hinted("nothing was set")
	}
	return secret.New(string(plain)), nil
}

// prompt asks twice, without echo.
func (s *secretInput) prompt(name string) (secret.Value, error) {
	first, err := s.ask(name)
	defer clear(first)
	if err != nil {
		return secret.Value{}, err
	}
	second, err := s.ask(name + ", again")
	defer clear(second)
	if err != nil {
		return secret.Value{}, err
	}
	if !bytes.Equal(first, second) {
		return secret.Value{}, usagef("the two were not the same").hinted("nothing was set; try again")
	}
	return s.checked(name, first)
}

// ask reads a line without echo. An interruption gives the terminal its echo back.
func (s *secretInput) ask(what string) ([]byte, error) {
	fd := int(s.sh.in.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, failf(exitError, "read the terminal").because(err)
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(interrupted)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-interrupted:
			term.Restore(fd, before)
			fmt.Fprintln(s.sh.err)
			os.Exit(int(exitError))
		case <-done:
		}
	}()
	fmt.Fprintf(s.sh.err, "%s (not shown): ", what)
	line, err := term.ReadPassword(fd)
	fmt.Fprintln(s.sh.err)
	if err != nil {
		return nil, failf(exitError, "read the terminal").because(err)
	}
	return line, nil
}
