package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
)

const maxTemplate = 4 << 20

type templateOptions struct {
	remote
	slotFlags
	mode          string
	watch         bool
	command       string
	stdoutSecrets bool
}

func newTemplateCommand(sh *shell) *cobra.Command {
	o := templateOptions{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "template IN OUT",
		Short: "Write a file from a template with credentials",
		Long: `Write a file from a Go template (text/template) in which credentials are functions:

  {{ credential "salesforce" }}                       its value, or its only field
  {{ credential "sftp" "password" }}                  one field
  {{ credential "sftp" "host" "reports" "staging" }}  of a name and an environment
  {{ with fields "sftp" }}{{ .host }}:{{ .port }}{{ end }}

An environment that is not named is that of -e, a name that of --name; "" stands for
them. A value is quoted for where it goes: {{ credential "salesforce" | json }}, and
likewise shell, yaml, base64 and url.

OUT is replaced at once, or stays as it was when anything is wrong; "-" is standard
output, which takes a pipe, or a terminal with --stdout-secrets. IN may be "-" as well.

With --watch the file is written again when a credential has changed, until
interrupted; while one cannot be resolved the file stays. --exec runs a command, with
sh, after the file was written with another content than it had.`,
		Example: `  sidevault template -e production app.conf.tmpl /etc/app/app.conf
  sidevault template -e production --watch --exec 'systemctl reload nginx' nginx.tmpl /etc/nginx/auth.conf`,
		Args: operands("IN", "OUT"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0], args[1]) },
	}
	flags := cmd.Flags()
	o.remote.addFlags(cmd)
	o.slotFlags.addFlags(cmd, &o.remote)
	flags.StringVar(&o.mode, "mode", "0600", "`mode` of the file")
	flags.BoolVar(&o.watch, "watch", false, "write it again when a credential has changed")
	flags.StringVar(&o.command, "exec", "", "`command` to run after a change of the file")
	flags.BoolVar(&o.stdoutSecrets, "stdout-secrets", false, "print secrets on a terminal")
	return cmd
}

// rendering is a template that was told to become a file.
type rendering struct {
	*templateOptions
	*document
	out  string
	mode fs.FileMode
}

const standardStream = "-"

func (o *templateOptions) run(cmd *cobra.Command, in, out string) error {
	r, err := o.prepare(cmd, in, out)
	if err != nil {
		return err
	}
	// Secrets pass through here.
	if err := undumpable(); err != nil {
		return err
	}
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	c, err := o.client()
	if err != nil {
		return err
	}
	defer c.Close()
	err = r.again(ctx, c)
	switch {
	case ctx.Err() != nil:
		return failf(exitError, "interrupted; %s is whole", oneLine(out))
	case err != nil || !o.watch:
		return err
	}
	f := follower{remote: &o.remote, concerns: r.concerns, again: r.again}
	f.run(ctx)
	return nil
}

// prepare checks all that can be checked before a secret is read.
func (o *templateOptions) prepare(cmd *cobra.Command, in, out string) (*rendering, error) {
	mode, err := strconv.ParseUint(o.mode, 8, 32)
	if err != nil || mode > 0o777 || mode&0o400 == 0 {
		return nil, usagef("--mode %q is not a mode that its owner can read, as in 0600", o.mode)
	}
	if out == standardStream {
		if o.watch || o.command != "" {
			return nil, usagef("--watch and --exec need a file").hinted("name one in the place of -")
		}
		if isTerminal(o.sh.out) && !o.stdoutSecrets {
			return nil, usagef("this would print secrets on the terminal").hinted("--stdout-secrets does; without it name a file, or use a pipe")
		}
	}
	text, err := o.read(in)
	if err != nil {
		return nil, err
	}
	d, err := parseDocument(text, client.Slot{Environment: o.scope(cmd), Name: o.name})
	if err != nil {
		return nil, about(in, err)
	}
	d.warn = o.sh
	return &rendering{templateOptions: o, document: d, out: out, mode: fs.FileMode(mode)}, nil
}

func (o *templateOptions) read(in string) (text []byte, err error) {
	if in != standardStream {
		text, err = readBounded(in, maxTemplate)
	} else if text, err = io.ReadAll(io.LimitReader(o.sh.in, maxTemplate+1)); err == nil && len(text) > maxTemplate {
		err = fmt.Errorf("it is larger than %d bytes", maxTemplate)
	}
	if err != nil {
		return nil, usagef("read the template").because(err)
	}
	return text, nil
}

// again writes the file, and runs the command when its content is another.
func (r *rendering) again(ctx context.Context, c *client.Client) error {
	content, err := r.render(ctx, c)
	if err != nil || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	defer clear(content)
	if r.out == standardStream {
		_, err := r.sh.out.Write(content)
		return err
	}
	changed, err := r.write(content)
	if err != nil {
		return failf(exitError, "write %s", oneLine(r.out)).because(err).hinted("it is as it was")
	}
	if !changed || r.command == "" {
		return nil
	}
	return r.tell(ctx)
}

// write puts the content in the place of the file's, and reports whether that differs.
func (r *rendering) write(content []byte) (changed bool, err error) {
	info, err := os.Lstat(r.out)
	switch {
	case err == nil && info.IsDir():
		return false, errors.New("it is a directory")
	case err == nil && info.Mode().IsRegular() && info.Mode().Perm() == r.mode:
		before, err := os.ReadFile(r.out)
		defer clear(before)
		if err == nil && bytes.Equal(before, content) {
			return false, nil
		}
	}
	f, err := createReplacement(r.out)
	if err != nil {
		return false, err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(r.mode)); err != nil {
		return false, errors.Join(err, f.drop())
	}
	return true, f.keep()
}

// tell runs the command. It gets nothing of ours, and its output is not the result.
func (r *rendering) tell(ctx context.Context) error {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", "-c", r.command)
	cmd.Env, cmd.Stdout, cmd.Stderr = without(r.sh.environ), r.sh.out, r.sh.err
	err := cmd.Run()
	if err == nil {
		return nil
	}
	f := failf(exitError, "%s was written, but the command after it did not succeed", oneLine(r.out)).because(err)
	return f.hinted("run it by hand: it is not run again before the next change")
}

func (r *rendering) concerns(e wire.WatchEvent) bool { return r.uses(e.IntegrationID) }
