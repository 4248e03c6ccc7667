package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Backup writes a backup of the whole vault to w, for the age recipients given or,
// without any, for the vault's own, and returns its size. It takes as long as ctx
// allows. What was written is a backup only when the error is nil.
func (c *Client) Backup(ctx context.Context, w io.Writer, recipients ...string) (int64, error) {
	r := call{method: http.MethodGet, path: []string{"v1", "backup"}}
	if len(recipients) > 0 {
		r.query = url.Values{"recipients": {strings.Join(recipients, ",")}}
	}
	req, err := c.request(ctx, r)
	if err != nil {
		return 0, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return 0, c.unreachable(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		body, err := readAll(res.Body)
		if err != nil {
			return 0, c.unreachable(err)
		}
		return 0, refusal(res.StatusCode, body)
	}
	n, err := io.Copy(w, res.Body)
	if err != nil {
		return n, fmt.Errorf("the backup was broken off after %d bytes: %w", n, err)
	}
	return n, nil
}
