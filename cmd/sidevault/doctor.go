package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
)

// Severities of findings, the worst first. What could not be looked at is no fault, and
// no all-clear either.
const (
	severityError   = "error"
	severityWarning = "warning"
	severityInfo    = "info"
	severityUnseen  = "unseen"
	severityOK      = "ok"
)

func severities() []string {
	return []string{severityError, severityWarning, severityInfo, severityUnseen, severityOK}
}

// finding is one thing that was looked at.
type finding struct {
	Severity string `json:"severity"`
	Check    string `json:"check"`
	Message  string `json:"message"`
	Cure     string `json:"cure,omitempty"`
}

type doctorOptions struct {
	remote
	all           bool
	form          output
	maxAge        string
	expiresWithin string
	unread        string
}

func newDoctorCommand(sh *shell) *cobra.Command {
	o := doctorOptions{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what is wrong, or soon will be, and say what to do about it",
		Long: `Look at the files, the disk, the memory and the clock of this host, at the sidecar and
its storage, keys, plugins, certificates and audit log, and at the credentials: expired
and expiring ones, old ones, ones that nobody reads. Each finding comes with its cure.

It works without a running sidecar, and as any user, and says what it could not see; it
changes nothing but a file of its own in the data directory, which it removes. Give it
the settings of the sidecar: --config or --data-dir. With an API key of admin scope it
sees the most. The exit code is 1 when there are errors, 7 when there are warnings alone.`,
		Example: "  sidevault doctor --data-dir /var/lib/sidevault",
		Args:    operands(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := cmd.Flags()
	o.remote.addFlags(cmd)
	addSettings(flags, append(storageKeys(), "tls.cert", "tls.key")...)
	flags.BoolVar(&o.all, "all", false, "show what is fine, too")
	flags.StringVar(&o.maxAge, "max-age", "90d", "`age` from which a credential is to be rotated")
	flags.StringVar(&o.expiresWithin, "expires-within", "14d", "`time` before an expiry from which it is a warning")
	flags.StringVar(&o.unread, "unread", "30d", "`time` without a read after which a credential is stale")
	addOutputFlags(cmd, &o.form)
	return cmd
}

// doctor is one examination.
type doctor struct {
	remote
	cfg     settings
	now     time.Time
	list    []finding
	reached bool // a sidecar answers

	maxAge, expiresWithin, unread time.Duration
}

func (d *doctor) say(severity, check, cure, format string, args ...any) {
	d.list = append(d.list, finding{Severity: severity, Check: check, Message: oneLine(fmt.Sprintf(format, args...)), Cure: oneLine(cure)})
}

// fault says an error of this program, which brings its cure along.
func (d *doctor) fault(check string, err error) {
	f := explain(err)
	if errors.Is(err, fs.ErrPermission) {
		d.say(severityUnseen, check, "run it as the sidecar's user, with sudo -u USER sidevault doctor", "%s", f.msg)
		return
	}
	d.say(severityError, check, cmp.Or(f.hint, "mend what it says, then run sidevault doctor again"), "%s", f.msg)
}

func (o *doctorOptions) run(cmd *cobra.Command) error {
	d := &doctor{remote: o.remote, now: time.Now()}
	for flag, to := range map[string]*time.Duration{"--max-age": &d.maxAge, "--expires-within": &d.expiresWithin, "--unread": &d.unread} {
		given := map[string]string{"--max-age": o.maxAge, "--expires-within": o.expiresWithin, "--unread": o.unread}[flag]
		var err error
		if *to, err = parseAge(given); err != nil {
			return usagef("%s %q is not an age: days, as in 90d, or a duration, as in 36h", flag, given)
		}
	}
	var err error
	if d.cfg, err = loadSettings(cmd.Flags(), o.sh); err != nil {
		d.fault("settings", err)
	}
	d.examine(cmd, err == nil)
	rank := func(s string) int { return slices.Index(severities(), s) }
	slices.SortStableFunc(d.list, func(a, b finding) int { return cmp.Compare(rank(a.Severity), rank(b.Severity)) })
	if err := o.tell(d.list); err != nil {
		return err
	}
	return verdict(d.list)
}

// examine looks at everything, at this host where its settings are known.
func (d *doctor) examine(cmd *cobra.Command, configured bool) {
	defer waiting(d.sh, "Looking at host, sidecar and credentials")()
	ctx := cmd.Context()
	c := d.examineSidecar(ctx)
	if configured {
		d.examineHost(ctx, namesStorage(cmd.Flags()) || d.cfg.given["data-dir"] || d.cfg.file != "")
	}
	if c != nil {
		d.examineVault(ctx, c)
	}
}

// tell prints the findings.
func (o *doctorOptions) tell(list []finding) error {
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, list)
	}
	var b strings.Builder
	var fine []string
	for _, f := range list {
		if f.Severity == severityOK && !o.all {
			fine = append(fine, f.Check)
			continue
		}
		fmt.Fprintf(&b, "%s %s: %s\n", o.severity(f.Severity), f.Check, f.Message)
		if f.Cure != "" {
			fmt.Fprintf(&b, "         cure: %s\n", f.Cure)
		}
	}
	if slices.Sort(fine); len(fine) > 0 {
		fmt.Fprintf(&b, "%s %s\n", o.severity(severityOK), strings.Join(slices.Compact(fine), ", "))
	}
	_, err := fmt.Fprint(o.sh.out, b.String())
	return err
}

// severity prints a severity in its column.
func (o *doctorOptions) severity(s string) string {
	color := map[string]string{severityError: red, severityWarning: yellow, severityInfo: cyan, severityOK: green}[s]
	return o.sh.paint(color, s) + strings.Repeat(" ", len("warning ")-len(s))
}

// verdict returns the error that stands for the worst finding.
func verdict(list []finding) error {
	n := map[string]int{}
	for _, f := range list {
		n[f.Severity]++
	}
	sum := fmt.Sprintf("%s, %s", counted(uint64(n[severityError]), "error"), counted(uint64(n[severityWarning]), "warning"))
	if unseen := n[severityUnseen]; unseen > 0 {
		sum += fmt.Sprintf(", and %d could not be looked at", unseen)
	}
	switch {
	case n[severityError] > 0:
		return failf(exitError, "%s", sum)
	case n[severityWarning] > 0:
		return failf(exitWarnings, "%s", sum)
	}
	return nil
}

// doctorPatience is how long the sidecar may take for one answer.
const doctorPatience = 10 * time.Second

// examineSidecar asks the sidecar how it is. It returns a client for the rest, nil when
// there is none.
func (d *doctor) examineSidecar(ctx context.Context) *client.Client {
	const check = "sidecar"
	token, tokenErr := d.token()
	c, err := d.connect(token, client.Options{Timeout: doctorPatience})
	if err != nil {
		d.fault(check, err)
		return nil
	}
	health, err := c.Ready(ctx)
	if err != nil {
		d.fault(check, err)
		return nil
	}
	d.reached = true
	for _, part := range health.Checks {
		switch part.Status {
		case "ok":
			d.say(severityOK, part.Name, "", "ready")
		case "degraded":
			d.say(severityWarning, part.Name, cureOf(part.Name), "%s", part.Reason)
		default:
			d.say(severityError, part.Name, cureOf(part.Name), "%s: %s", part.Status, part.Reason)
		}
	}
	d.examineEndpoint(ctx)
	if tokenErr != nil {
		f := explain(tokenErr)
		d.say(severityUnseen, "credentials", f.hint, "%s", f.msg)
		return nil
	}
	return c
}

// cureOf returns what helps with a part that is not ready.
func cureOf(part string) string {
	if part == "plugins" {
		return "sidevault plugin list says what is wrong with each"
	}
	return "look at the storage that backend names, and at the sidecar's log"
}
