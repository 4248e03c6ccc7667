package contract

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/sidevault/sidevault/plugins/pluginpb"
)

// healthService is the name that go-plugin asks about.
const healthService = "plugin"

// checkCookie runs the program as a curious person would.
func checkCookie(ctx context.Context, b *bench) outcome {
	if b.baseErr != nil {
		return failf("%v", b.baseErr)
	}
	ctx, cancel := context.WithTimeout(ctx, b.program.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.program.Path, b.program.Args...)
	cmd.Dir, cmd.Env = b.dir, environment(b.program, b.dir)
	cmd.SysProcAttr = apart()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout = &out
	err := cmd.Run()
	switch {
	case cmd.ProcessState == nil:
		return failf("it cannot be started: %v", err)
	case ctx.Err() != nil:
		return failf("it does not end within %v", b.program.Timeout)
	case strings.HasPrefix(out.String(), "1|"):
		return failf("it begins to serve")
	case err == nil:
		return failf("its exit code is 0")
	}
	return pass()
}

func checkHandshake(_ context.Context, b *bench) outcome {
	if err := b.start(); err != nil {
		b.deaf = true
		return failf("%v", err)
	}
	// go-plugin itself has read the certificate, when there was one.
	if parts := b.process.handshake(); len(parts) < 6 || parts[5] == "" {
		b.process.kill()
		b.deaf, b.process = true, nil
		return failf("the line has no certificate: the program would speak in clear")
	}
	return pass()
}

func checkSocket(_ context.Context, b *bench) outcome {
	parts := b.process.handshake()
	if parts[2] != "unix" {
		return failf("it listens on %s", parts[2])
	}
	for _, line := range b.process.cmd.Env {
		if dir, ok := strings.CutPrefix(line, "PLUGIN_UNIX_SOCKET_DIR="); ok && filepath.Dir(parts[3]) == filepath.Clean(dir) {
			return pass()
		}
	}
	return failf("the socket is in %s", filepath.Dir(parts[3]))
}

// checkStrangers tries to speak with the program as another process of the same
// user would.
func checkStrangers(ctx context.Context, b *bench) outcome {
	ctx, cancel := context.WithTimeout(ctx, b.program.Timeout)
	defer cancel()
	stranger, err := selfSigned()
	if err != nil {
		return failf("%v", err)
	}
	for who, config := range map[string]*tls.Config{
		"in clear":                      nil,
		"without a certificate":         {},
		"with a certificate of its own": {Certificates: []tls.Certificate{stranger}},
	} {
		if spoken, err := b.speak(ctx, config); err != nil {
			return failf("connect: %v", err)
		} else if spoken {
			return failf("it answers a stranger %s", who)
		}
	}
	// A program that refuses everybody would have passed so far.
	if a := b.health(ctx); a != nil && status.Code(a) != codes.Unimplemented {
		return failf("the sidecar itself gets %s", oneLine(status.Convert(a).Message()))
	}
	return pass()
}

// speak opens an HTTP/2 connection and reports whether the program does its part.
func (b *bench) speak(ctx context.Context, config *tls.Config) (bool, error) {
	parts := b.process.handshake()
	raw, err := new(net.Dialer).DialContext(ctx, parts[2], parts[3])
	if err != nil {
		return false, err
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(2 * time.Second))
	conn := raw
	if config != nil {
		config.InsecureSkipVerify, config.NextProtos, config.ServerName = true, []string{"h2"}, "localhost"
		conn = tls.Client(raw, config)
	}
	if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
		return false, nil // refused during the handshake
	}
	// A SETTINGS frame has type 4. What a TLS server says in clear is an alert.
	frame := make([]byte, 9)
	n, _ := conn.Read(frame)
	return n > 3 && frame[3] == 4, nil
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// health asks as go-plugin does.
func (b *bench) health(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.program.Timeout)
	defer cancel()
	r, err := grpc_health_v1.NewHealthClient(b.process.conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: healthService})
	if err == nil && r.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("the status is %v", r.GetStatus())
	}
	return err
}

func checkHealth(ctx context.Context, b *bench) outcome {
	if err := b.health(ctx); err != nil {
		return failf("%s", oneLine(err.Error()))
	}
	return pass()
}

// checkDescribe also finds out what the program is, unless that is given.
func checkDescribe(ctx context.Context, b *bench) outcome {
	ctx, cancel := context.WithTimeout(ctx, b.program.Timeout)
	defer cancel()
	r, err := pluginpb.NewPluginClient(b.process.conn).Describe(ctx, &pluginpb.DescribeRequest{})
	services := r.GetServices()
	if b.report.Kind == "" && len(services) > 0 {
		b.report.Kind = Kind(services[0])
	}
	if b.report.Kind != Validator && b.report.Kind != Syncer {
		b.deaf = true
		return failf("it does not say whether it is a validator or a syncer, and neither does the one who checks it")
	}
	switch {
	case status.Code(err) == codes.Unimplemented:
		return skipf("it does not describe itself")
	case err != nil:
		return failf("%s", oneLine(err.Error()))
	}
	b.report.Name, b.report.Version = oneLine(r.GetName()), oneLine(r.GetVersion())
	switch {
	case r.GetName() == "" || r.GetVersion() == "":
		return failf("the name or the version is empty")
	case !slices.Contains(services, string(b.report.Kind)):
		return failf("it says that it has %q, and is checked as a %s", services, b.report.Kind)
	case slices.ContainsFunc(services, func(s string) bool { return Kind(s) != Validator && Kind(s) != Syncer }):
		return failf("it says that it has %q: there are only validator and syncer", services)
	}
	return pass()
}
