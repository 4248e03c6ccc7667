package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"encoding/json"

	"github.com/sidevault/sidevault/tools/bench/load"
)

// resolveShared compares warm reads of a vault in PostgreSQL or etcd, on a server of its
// own, with the same on bbolt.
func (b *bench) resolveShared(ctx context.Context, scheme string) ([]figure, error) {
	on := &stage{ctx: ctx, dir: b.dir}
	defer on.close()
	url, err := on.startServer(scheme)
	if err != nil {
		return nil, err
	}
	s, v, err := b.usual(ctx)
	if err != nil {
		return nil, err
	}
	other, err := newStore(ctx, filepath.Join(b.dir, scheme), b.program, url)
	if err != nil {
		return nil, err
	}
	other.names = v.names
	var f figure
	err = b.with(ctx, other, nil, func(shared *sidecar) error {
		if err := other.fillOver(ctx, shared); err != nil {
			return err
		}
		if err := errors.Join(other.readAll(ctx, shared), v.readAll(ctx, s)); err != nil {
			return err
		}
		pairs, err := b.alternate(ctx, 64, shared.target("tcp", resolves(other)), s.target("tcp", resolves(v)))
		f = pairs.figure("resolve, "+scheme+", 64 connections", "itself on bbolt", load.Result.PerSecond)
		return err
	})
	f.unit, f.measure, f.goal, f.atLeast = "requests/s", ratio(), 0.9, true
	return []figure{f}, err
}

// fillOver makes what fill makes, through a sidecar.
func (v *store) fillOver(ctx context.Context, s *sidecar) error {
	var made struct {
		Data struct {
			Secret string `json:"key"`
		} `json:"data"`
	}
	body := fmt.Sprintf(`{"name":"reader","scope":"user","environments":[%q],"integrations":[%q]}`, environment, integration)
	if err := v.write(ctx, s, http.MethodPost, "/v1/keys", body, &made); err != nil {
		return err
	}
	v.reader = made.Data.Secret
	return inParallel(v.names, func(name string) error {
		at := "/v1/integrations/" + integration + "/credentials?" + query(name)
		return v.write(ctx, s, http.MethodPut, at, fmt.Sprintf(`{"value":%q}`, strings.Repeat("x", valueBytes)), nil)
	})
}

// write sends a change as the admin, and decodes what the sidecar answers into to.
func (v *store) write(ctx context.Context, s *sidecar, method, path, body string, to any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.address+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+v.admin)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("%s %s: the sidecar answered with status %d", method, path, resp.StatusCode)
	}
	if to == nil {
		return nil
	}
	if json.NewDecoder(resp.Body).Decode(to) != nil {
		return errors.New(method + " " + path + ": the answer is not the JSON that it should be")
	}
	return nil
}
