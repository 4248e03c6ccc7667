// Command validator is a validator that does as its binding's config says, well or
// badly, for the tests of what the sidecar makes of it.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sidevault/sidevault/plugins/sdk"
)

type config struct {
	Do     string   `json:"do"`
	Prefix string   `json:"prefix"` // of the values that pass
	Paths  []string `json:"paths"`  // to try to read
	Socket string   `json:"socket"` // to try to connect to
}

type validator struct{}

func (validator) Validate(ctx context.Context, r sdk.ValidateRequest) (sdk.ValidateResult, error) {
	var c config
	if err := r.Config.Decode(&c); err != nil {
		return sdk.ValidateResult{}, err
	}
	value := r.Value().Reveal()
	if !strings.HasPrefix(value, c.Prefix) {
		return sdk.Reject("a value begins with %s", c.Prefix), nil
	}
	switch c.Do {
	case "reject":
		return sdk.Reject("this value is not wanted").Field("value", "the provider does not know it"), nil
	case "echo":
		slog.Info("checking "+value, "value", value)
		fmt.Fprintln(os.Stderr, "raw line with", value)
		fmt.Println("on standard output", value)
		return sdk.Reject("%s is not a key; %q is none", value, value).Field("value", "not %s", value), nil
	case "slow":
		select {
		case <-time.After(time.Minute):
		case <-ctx.Done():
		}
		return sdk.ValidateResult{}, ctx.Err()
	case "hang":
		time.Sleep(time.Hour)
	case "crash":
		go panic("crashed over " + value) // here, the SDK would make it an error of the call
		select {}
	case "nothing":
		return sdk.ValidateResult{}, nil
	case "look":
		return sdk.Reject("%s", look(c)), nil
	case "shout":
		line := []byte(strings.Repeat("x", 1<<16) + "\n")
		for range 1 << 10 {
			os.Stderr.Write(line)
		}
	}
	return sdk.Accept(), nil
}

// look tells what the program can see and do that it should not.
func look(c config) string {
	var seen []string
	for _, v := range os.Environ() {
		if strings.Contains(v, "SIDEVAULT_TOKEN") || strings.HasPrefix(v, "ACCEPTANCE_") {
			seen = append(seen, "environment")
		}
	}
	parent := fmt.Sprintf("/proc/%d/", os.Getppid())
	paths := append(c.Paths, parent+"environ", parent+"mem", "/etc/shadow", "/root")
	for _, path := range paths {
		if data, err := os.ReadFile(path); err == nil && len(data) > 0 {
			seen = append(seen, path)
		}
		if entries, err := os.ReadDir(path); err == nil && len(entries) > 0 {
			seen = append(seen, path)
		}
	}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		for _, fd := range fds {
			target, _ := os.Readlink(filepath.Join("/proc/self/fd", fd.Name()))
			if strings.Contains(target, "vault.db") {
				seen = append(seen, target)
			}
		}
	}
	if conn, err := net.Dial("unix", c.Socket); c.Socket != "" && err == nil {
		fmt.Fprint(conn, "GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\n\r\n")
		answer := make([]byte, 64)
		n, _ := conn.Read(answer)
		if strings.Contains(string(answer[:n]), " 200 ") {
			seen = append(seen, "socket")
		}
	}
	if syscall.Kill(os.Getppid(), 0) == nil {
		seen = append(seen, "signals")
	}
	if wd, err := os.Getwd(); err != nil || os.WriteFile("own", []byte("x"), 0o600) != nil {
		seen = append(seen, "no directory of its own: "+wd)
	}
	return "seen: [" + strings.Join(seen, ", ") + "]"
}

func main() {
	sdk.ServeValidator(validator{}, sdk.Info{Name: "trial", Version: "0.1.0", Description: "Does as it is told."})
}
