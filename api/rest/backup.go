package rest

import (
	"net/http"
	"strings"
	"time"

	"github.com/sidevault/sidevault/vault"
)

// backUp streams a backup. It takes as long as it takes; only a reader who accepts
// nothing for a while is cut off.
func (s *server) backUp(r *request) (answer, error) {
	recipients, err := r.name("recipients")
	if err != nil {
		return answer{}, err
	}
	var o vault.BackupOptions
	if recipients != "" {
		o.Recipients = strings.Split(recipients, ",")
	}
	r.await()
	ctx, cancel := s.untilClosing(r.ctx())
	defer cancel()
	header := r.gin.Writer.Header()
	header.Set("Content-Type", "application/octet-stream")
	done, err := s.vault.Backup(ctx, r.caller, &download{stream{writer: r.gin.Writer, control: http.NewResponseController(r.gin.Writer)}}, o)
	switch {
	case err == nil:
		s.log.InfoContext(ctx, "a backup was taken", "request_id", r.id(), "records", done.Records, "audit_entries", done.Head.Seq)
		return answer{}, nil
	case !r.gin.Writer.Written():
		header.Del("Content-Type")
		return answer{}, err
	}
	// The answer has begun: breaking it off says that it is no backup.
	s.log.WarnContext(ctx, "a backup was broken off", "request_id", r.id(), "err", err)
	panic(http.ErrAbortHandler)
}

// patientRead is how long a reader of a backup may take to accept what was written.
const patientRead = 5 * time.Minute

// download writes to a reader that may be slow.
type download struct{ stream }

func (d *download) Write(p []byte) (int, error) {
	// Not every writer has deadlines (a test's recorder has none).
	_ = d.control.SetWriteDeadline(time.Now().Add(patientRead))
	return d.writer.Write(p)
}
