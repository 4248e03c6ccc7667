package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/cmd/sidevault/child"
)

// Codes of a shell for a program that cannot be started.
const (
	exitNotRun   exitCode = 126
	exitNotThere exitCode = 127
)

type runOptions struct {
	remote
	slotFlags
	credentials []string
	mapping     string
	files       bool
	watch       bool
	onChange    string
	grace       time.Duration
}

func newRunCommand(sh *shell) *cobra.Command {
	o := runOptions{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "run [flags] -- CMD [ARGS...]",
		Short: "Run a program with credentials in its environment",
		Long: `Run a program with the credentials that an environment resolves to: by default all
that are set and that the API key may read. Each field is a variable with the name
INTEGRATION_FIELD in upper case, as in SALESFORCE_VALUE or SFTP_HOST, or
INTEGRATION_NAME_FIELD for a credential of another name than the default; what is
neither a letter nor a digit becomes an underscore. When one credential cannot be
had, the program is not started.

With --files each is a file of that name instead, in a directory in memory that only
its owner can enter; SIDEVAULT_FILES holds its path. It is removed at the end.

The program has the terminal and the signals, and its exit code is the command's: 128
and the number for a signal, 127 when there is no such program, 126 when it cannot be
started. No other variable that begins with SIDEVAULT_ is passed on to it.

With --watch the program is restarted when a value has changed: its process group gets
SIGTERM and, after --stop-timeout, SIGKILL. With --on-change SIGHUP, or another signal,
it gets that instead, once the files are in place; variables of a running program cannot
change, so use it with --files. While the sidecar is away, or a credential cannot be
resolved, the program keeps what it has.

A mapping names the variables. It is a YAML file:

  DB_PASSWORD: {integration: sftp, field: password}
  TOKEN: {integration: salesforce, name: reports}`,
		Example: `  sidevault run -e production -- ./billing --port 8080
  sidevault run -e staging --credential salesforce --credential sftp:reports --files --watch -- ./sync
  sidevault run -e production --map variables.yaml -- ./billing`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("CMD is missing").hinted("sidevault run -e ENVIRONMENT -- CMD ARGS...")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	o.addFlags(cmd)
	return cmd
}

func (o *runOptions) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	o.remote.addFlags(cmd)
	flags.SetInterspersed(false)
	flags.StringVarP(&o.environment, environmentFlag, "e", "", "`environment`; without it, what all environments share")
	flags.StringArrayVar(&o.credentials, "credential", nil, "only this `credential`: INTEGRATION or INTEGRATION:NAME; repeat it for more")
	flags.StringVar(&o.mapping, "map", "", "YAML `file` that names variables; beside --credential, further ones")
	flags.BoolVar(&o.files, "files", false, "give files in memory instead of variables")
	flags.BoolVar(&o.watch, "watch", false, "act when a credential has changed")
	flags.StringVar(&o.onChange, "on-change", restartWord, "with --watch: restart, or a `signal` such as SIGHUP")
	flags.DurationVar(&o.grace, "stop-timeout", 10*time.Second, "`time` that the program gets to end before a restart")
	completeEnvironments(cmd, &o.remote)
}

const restartWord = "restart"

// reloadSignals are those that programs read their configuration again on.
func reloadSignals() map[string]syscall.Signal {
	return map[string]syscall.Signal{
		restartWord: 0, "SIGHUP": syscall.SIGHUP, "SIGUSR1": syscall.SIGUSR1, "SIGUSR2": syscall.SIGUSR2,
		"SIGINT": syscall.SIGINT, "SIGTERM": syscall.SIGTERM, "SIGQUIT": syscall.SIGQUIT,
	}
}

// running is a program that was told to run.
type running struct {
	*runOptions
	selection
	path    string
	args    []string
	signal  syscall.Signal // on a change; 0: restart
	current []variable
	dir     *secretDir // nil: variables
	changes chan child.Change
}

func (o *runOptions) run(cmd *cobra.Command, args []string) error {
	r, err := o.prepare(cmd, args)
	if err != nil {
		return err
	}
	// Secrets pass through here. The program itself is as it would be without.
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
	if r.current, err = r.resolve(ctx, c); err != nil {
		return r.notStarted(ctx, err)
	}
	if o.files || o.watch {
		return r.supervise(ctx, stop)
	}
	command, err := r.command()
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return r.notStarted(ctx, ctx.Err())
	}
	stop()
	return r.cannotStart(command.Replace())
}

// interruptible returns a context that ends with the first signal that asks for the
// end, of those that are not ignored.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	signals := slices.DeleteFunc([]os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}, signal.Ignored)
	return signal.NotifyContext(ctx, signals...)
}

// prepare checks all that can be checked before a secret is read.
func (o *runOptions) prepare(cmd *cobra.Command, args []string) (*running, error) {
	r := &running{runOptions: o, args: args, changes: make(chan child.Change)}
	r.selection.sh, r.selection.environment = o.remote.sh, o.scope(cmd)
	for _, s := range o.credentials {
		c, err := parseChoice(s)
		if err != nil {
			return nil, err
		}
		if slices.Contains(r.chosen, c) {
			return nil, usagef("--credential %s is given twice", c)
		}
		r.chosen = append(r.chosen, c)
	}
	var err error
	if o.mapping != "" {
		if r.mapped, err = readMapping(o.mapping); err != nil {
			return nil, err
		}
	}
	if cmd.Flags().Changed("on-change") && !o.watch {
		return nil, usagef("--on-change goes with --watch")
	}
	name := strings.ToUpper(o.onChange)
	if name == strings.ToUpper(restartWord) {
		name = restartWord
	} else if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	var known bool
	if r.signal, known = reloadSignals()[name]; !known {
		return nil, usagef("--on-change %q is neither %s nor a signal that can be sent", o.onChange, restartWord).
			hinted("SIGHUP, SIGUSR1 and SIGUSR2 are what programs read their files again on")
	}
	r.path, err = exec.LookPath(args[0])
	return r, r.cannotStart(err)
}

// cannotStart explains why there is no program, in the codes of a shell.
func (r *running) cannotStart(err error) error {
	if err == nil {
		return nil
	}
	code, name := exitNotRun, oneLine(r.args[0])
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		code = exitNotThere
	}
	if e, ok := errors.AsType[*exec.Error](err); ok {
		err = e.Err
	}
	f := failf(code, "%s was not started", name).because(err)
	if errors.Is(err, syscall.E2BIG) {
		return f.hinted("--files gives the credentials as files")
	}
	return f
}

func (r *running) notStarted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return failf(exitError, "interrupted; %s was not started", oneLine(r.args[0]))
	}
	f := *explain(err)
	f.msg += "; " + oneLine(r.args[0]) + " was not started"
	return &f
}

// command returns what to run with the present values.
func (r *running) command() (child.Command, error) {
	environ := without(r.selection.sh.environ)
	if r.dir != nil {
		return child.Command{Path: r.path, Args: r.args, Env: append(environ, filesVariable+"="+r.dir.path)}, nil
	}
	environ, err := with(environ, r.current)
	return child.Command{Path: r.path, Args: r.args, Env: environ}, err
}

// supervise runs the program below this process until it has ended, and removes what it
// was given.
func (r *running) supervise(ctx context.Context, stop func()) (err error) {
	supervisor := child.Listen(r.grace)
	defer supervisor.Close()
	if ctx.Err() != nil {
		return r.notStarted(ctx, ctx.Err())
	}
	stop() // which ends the context, too
	if r.files {
		if r.dir, err = newSecretDir(r.selection.sh); err != nil {
			return err
		}
		if err := r.dir.put(r.current); err != nil {
			return failf(exitError, "write the files").because(errors.Join(err, r.dir.remove()))
		}
	}
	exit, err := r.attend(supervisor)
	if r.dir != nil {
		err = firstOf(err, r.dir.remove())
	}
	if err != nil {
		return err
	}
	exit.Interrupt()
	return ended(exit.Code)
}

// attend runs the program and follows the credentials meanwhile.
func (r *running) attend(s *child.Supervisor) (child.Exit, error) {
	command, err := r.command()
	if err != nil {
		return child.Exit{}, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		if r.watch {
			f := follower{remote: &r.remote, concerns: r.concerns, again: r.again}
			f.run(ctx)
		}
	}()
	exit, err := s.Run(command, r.changes)
	cancel()
	<-followed
	return exit, r.cannotStart(err)
}

func (r *running) concerns(e wire.WatchEvent) bool {
	all := len(r.chosen) == 0 && len(r.mapped) == 0
	return all || slices.ContainsFunc(r.chosen, func(c choice) bool { return c.integration == e.IntegrationID }) ||
		slices.ContainsFunc(r.mapped, func(m mapped) bool { return m.integration == e.IntegrationID })
}

// again reads the credentials, and acts when the program has others.
func (r *running) again(ctx context.Context, c *client.Client) error {
	list, err := r.resolve(ctx, c)
	if err != nil || sameVariables(list, r.current) {
		return err
	}
	before := r.current
	r.current = list
	command, err := r.command()
	if err == nil && r.dir != nil {
		err = r.dir.put(list)
	}
	if err != nil {
		r.current = before
		return err
	}
	what := "restarting"
	if r.signal != 0 {
		what = "signalling"
	}
	fmt.Fprintf(r.selection.sh.err, "sidevault: credentials have changed: %s %s\n", what, oneLine(r.args[0]))
	select {
	case r.changes <- child.Change{Signal: r.signal, Next: command}:
	case <-ctx.Done():
	}
	return nil
}
