package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/gin-gonic/gin"
)

// answers are what a sidecar answered to reading each credential.
type answers struct {
	Header http.Header
	Bodies map[string][]byte // by query
}

func query(name string) string {
	return url.Values{"environment": {environment}, "name": {name}}.Encode()
}

func path(name string) string { return "/v1/credentials/" + integration + "?" + query(name) }

// record reads every credential of the vault from the sidecar.
func record(ctx context.Context, s *sidecar, v *store) (*answers, error) {
	a := &answers{Bodies: map[string][]byte{}}
	for _, name := range v.names {
		resp, err := s.send(ctx, path(name), v.reader)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("the sidecar answered with status %d to a resolve", resp.StatusCode)
		}
		a.Bodies[query(name)], a.Header = body, resp.Header
	}
	for _, own := range []string{"Date", "Content-Length"} {
		a.Header.Del(own)
	}
	return a, nil
}

// handler is what a read is compared with: a Gin handler that sends the same bytes
// and does nothing else.
func (a *answers) handler() http.Handler {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.GET("/v1/credentials/:integration", func(c *gin.Context) {
		header := c.Writer.Header()
		for name, values := range a.Header {
			header[name] = values
		}
		c.Status(http.StatusOK)
		c.Writer.Write(a.Bodies[c.Request.URL.RawQuery])
	})
	return engine
}

// reference is a process that serves answers.
type reference struct {
	cmd             *exec.Cmd
	input           io.Closer
	address, socket string
	written         string // address of the same after an audit entry was written
}

const referenceWord = "serve-reference"

// startReference runs this program again to serve the answers, as one process more
// beside the load, like the sidecar.
func startReference(ctx context.Context, dir string, a *answers) (*reference, error) {
	file, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r := &reference{socket: filepath.Join(dir, "reference.sock")}
	r.cmd = exec.CommandContext(ctx, self, referenceWord, r.socket)
	r.cmd.Env, r.cmd.Stderr = []string{}, os.Stderr
	input, err := r.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	r.input = input
	output, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(input, "%s\n", file); err != nil {
		return nil, errors.Join(err, r.stop())
	}
	if _, err := fmt.Fscanln(output, &r.address, &r.written); err != nil {
		return nil, errors.Join(fmt.Errorf("the reference says no address: %w", err), r.stop())
	}
	return r, nil
}

// stop ends the reference, which ends with its input.
func (r *reference) stop() error {
	return errors.Join(r.input.Close(), r.cmd.Wait())
}

// serveReference serves the answers that are read from in on both networks, and says
// where on out, until in ends.
func serveReference(socket string, in io.Reader, out io.Writer) error {
	decoder := json.NewDecoder(in)
	var a answers
	if err := decoder.Decode(&a); err != nil {
		return err
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	unix, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	audited, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	log, err := os.Create(socket + ".log")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: a.handler()}
	writer := &http.Server{Handler: written(server.Handler, log)}
	go server.Serve(tcp)
	go server.Serve(unix)
	go writer.Serve(audited)
	if _, err := fmt.Fprintln(out, tcp.Addr(), audited.Addr()); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return errors.Join(err, server.Close(), writer.Close(), log.Close())
}

// resolves are the requests that read each of the names.
func resolves(v *store) [][]byte {
	var list [][]byte
	for _, name := range v.names {
		list = append(list, get(path(name), v.reader))
	}
	return list
}

func get(path, key string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", path, key)
}

// sets are the requests that set each of the names.
func sets(v *store) [][]byte {
	body := fmt.Sprintf(`{"value":%q}`, strings.Repeat("y", valueBytes))
	var list [][]byte
	for _, name := range v.names {
		var b bytes.Buffer
		fmt.Fprintf(&b, "PUT /v1/integrations/%s/credentials?%s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n", integration, query(name), v.admin)
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		list = append(list, b.Bytes())
	}
	return list
}
