package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sidevault/sidevault/backends"
)

// The engine's error codes that are told apart (PostgreSQL documentation,
// appendix A).
const (
	codeInvalidPassword  = "28P01"
	codeInvalidUser      = "28000"
	codeNoDatabase       = "3D000"
	codeNoPrivilege      = "42501"
	codeReadOnly         = "25006"
	codeDiskFull         = "53100"
	codeTooManyConns     = "53300"
	codeStarting         = "57P03"
	codeShutdown         = "57P01"
	codeCrash            = "57P02"
	codeIdleTimeout      = "57P05"
	codeCanceled         = "57014"
	codeNoTable          = "42P01"
	codeNoColumn         = "42703"
	codeNoFunction       = "42883"
	codeNoSchema         = "3F000"
	codeTypeMismatch     = "42804"
	codeDuplicateTable   = "42P07"
	codeNoRows           = "P0002"
	codeTooManyRows      = "P0003"
	codeDataCorrupted    = "XX001"
	codeIndexCorrupted   = "XX002"
	codeUniqueViolation  = "23505"
	codeCheckViolation   = "23514"
	codeNotNullViolation = "23502"
)

// refusal is a sentence for a person, and the error that errors.Is finds in it.
// The driver's error is not kept: it leads to the configuration with the password.
type refusal struct {
	sentence string
	err      error
}

func refuse(err error, format string, args ...any) error {
	return &refusal{fmt.Sprintf(format, args...), err}
}

func (r *refusal) Error() string { return r.sentence }
func (r *refusal) Unwrap() error { return r.err }

// explain turns an error of the driver into one line with the place, what
// happened and what to do.
func (p place) explain(err error) error {
	var mine *refusal
	var scan pgx.ScanArgError
	kind := backends.ErrUnavailable
	switch {
	case errors.As(err, &mine):
		return refuse(mine.err, "%s: %s", p, mine.sentence)
	case errors.Is(err, backends.ErrCorrupt):
		return fmt.Errorf("%s: %w", p, err)
	case errors.As(err, &scan):
		return refuse(backends.ErrCorrupt, "%s: %v: a column of the schema %s holds what it should not: %s: restore the database from a backup",
			p, backends.ErrCorrupt, p.schema, oneLine(scan.Err.Error()))
	}
	cause := p.cause(err)
	if pg := serverError(err); pg != nil && damaged(pg.Code) {
		kind = backends.ErrCorrupt
		cause = fmt.Sprintf("the schema %s is damaged (%s): restore the database from a backup", p.schema, oneLine(pg.Message))
	}
	return refuse(kind, "%s: %v: %s", p, kind, cause)
}

// damaged reports the codes with which a commit or a read meets a schema that was
// tampered with: the statements are fixed, so nothing else can cause them.
func damaged(code string) bool {
	switch code {
	case codeNoTable, codeNoColumn, codeNoFunction, codeNoSchema, codeTypeMismatch, codeNoRows, codeTooManyRows,
		codeDataCorrupted, codeIndexCorrupted, codeUniqueViolation, codeCheckViolation, codeNotNullViolation:
		return true
	}
	return false
}

// cause says what err comes from and what to do about it.
func (p place) cause(err error) string {
	if pg := serverError(err); pg != nil {
		return p.serverCause(pg)
	}
	if text := tlsCause(err); text != "" {
		return text
	}
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &dns):
		return fmt.Sprintf("the host %q is not found: check the URL and the name service", dns.Name)
	case errors.Is(err, context.DeadlineExceeded), pgconn.Timeout(err):
		return "the server did not answer in time: check that it runs and that the network lets through"
	case errors.As(err, &op) && op.Op == "dial":
		return fmt.Sprintf("the server cannot be reached (%s): check that it runs, and the address", oneLine(op.Err.Error()))
	case connectionLost(err):
		return "the connection was lost: check that the server runs"
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		err = connect.Unwrap()
	}
	return oneLine(err.Error())
}

func (p place) serverCause(pg *pgconn.PgError) string {
	said := oneLine(pg.Message)
	switch pg.Code {
	case codeInvalidPassword:
		return fmt.Sprintf("the server refuses the password of the user %q: correct the URL or the password file", p.user)
	case codeInvalidUser:
		return fmt.Sprintf("the server does not let in the user %q (%s): check the user and the server's pg_hba.conf", p.user, said)
	case codeNoDatabase:
		return fmt.Sprintf("there is no database %q: create it, or correct the URL", p.database)
	case codeNoPrivilege:
		return fmt.Sprintf("the user %q lacks a privilege (%s): let it own the schema %s", p.user, said, p.schema)
	case codeReadOnly:
		return "the server is read-only: give the address of the primary, or end its read-only mode"
	case codeDiskFull:
		return "the server's disk is full: make room there"
	case codeTooManyConns:
		return "the server has no connection left: raise its max_connections, or lower pool_max_conns in the URL"
	case codeStarting, codeShutdown, codeCrash:
		return fmt.Sprintf("the server is starting or stopping (%s): try again", said)
	case codeCanceled:
		return "the server took too long: look for locks and for load there"
	}
	return fmt.Sprintf("the server says: %s (SQLSTATE %s)", said, pg.Code)
}

func tlsCause(err error) string {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &authority):
		return "TLS: the server's certificate is signed by an authority that is not known here: name its file with sslrootcert in the URL"
	case errors.As(err, &host):
		return "TLS: " + oneLine(host.Error()) + ": use the name in the certificate, or sslmode=verify-ca"
	case errors.As(err, &invalid):
		return "TLS: the server's certificate is not valid (" + oneLine(invalid.Error()) + "): renew it"
	case errors.As(err, &verification), errors.As(err, &record), errors.As(err, &alert):
		return "TLS: " + oneLine(err.Error()) + ": check the sslmode and the certificates in the URL"
	case err != nil && strings.Contains(err.Error(), "server refused TLS connection"):
		return "TLS: the server does not offer it: turn on ssl there, or choose another sslmode in the URL"
	}
	return ""
}

// said is the text of an error that came over a connection, which quotes nothing
// of the URL.
func said(err error) string {
	if pg := serverError(err); pg != nil {
		return oneLine(pg.Message)
	}
	return oneLine(err.Error())
}

// serverError returns what the server said, or nil.
func serverError(err error) *pgconn.PgError {
	var pg *pgconn.PgError
	errors.As(err, &pg)
	return pg
}

// connectionLost reports an error of a connection that was once good. The server
// may or may not have carried out what was sent on it.
func connectionLost(err error) bool {
	var connect *pgconn.ConnectError
	if err == nil || errors.As(err, &connect) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if pg := serverError(err); pg != nil {
		return pg.Code == codeShutdown || pg.Code == codeCrash || pg.Code == codeIdleTimeout
	}
	var network net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, pgconn.ErrConnClosed) ||
		errors.Is(err, net.ErrClosed) || errors.As(err, &network) && !network.Timeout()
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
