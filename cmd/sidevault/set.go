package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
)

type setOptions struct {
	remote
	slotFlags
	input    secretInput
	fromFile string
	fields   []string
	authType string
	expires  string
	labels   map[string]string
	form     output
}

func newSetCommand(sh *shell) *cobra.Command {
	o := setOptions{remote: remote{sh: sh}, input: secretInput{sh: sh}}
	cmd := &cobra.Command{
		Use:   "set INTEGRATION",
		Short: "Set a credential, or rotate it",
		Long: `Set the credential of an integration: create it, or add a version.

The value comes from standard input, from --from-file, or on a terminal from a
prompt. For a credential of several fields give --field for each: NAME=@FILE reads
a file, NAME=- standard input or, on a terminal, a prompt. One newline at the end
of a file or of standard input is not part of the value, unless --keep-newline is
given. No value is ever taken from an argument.`,
		Example: `  pass salesforce/prod | sidevault set salesforce -e production
  sidevault set sftp --field host=@host.txt --field username=@user.txt --field private_key=@id_ed25519`,
		Args: operands("INTEGRATION"),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	o.addFlags(cmd)
	return cmd
}

func (o *setOptions) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	o.remote.addFlags(cmd)
	o.slotFlags.addFlags(cmd, &o.remote)
	o.addInputFlags(cmd)
	flags.StringVar(&o.expires, "expires", "", "`when` it expires: a duration from now, as in 720h, or an RFC 3339 time")
	flags.StringToStringVar(&o.labels, "label", nil, "a label, as `KEY=VALUE`; repeat it for more")
	addOutputFlags(cmd, &o.form)
	completeIntegrations(cmd, &o.remote)
}

// addInputFlags declares the flags that say where the secret comes from.
func (o *setOptions) addInputFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.fromFile, "from-file", "", "read the value from `file`")
	flags.StringArrayVar(&o.fields, "field", nil, "a field, as `NAME=@FILE` or NAME=-; repeat it for more")
	flags.StringVar(&o.authType, "auth-type", "", "`type` of the credential, one of the integration's")
	flags.BoolVar(&o.input.keepNewline, "keep-newline", false, "keep a newline at the end of a value")
}

func (o *setOptions) run(cmd *cobra.Command, integration string) error {
	c, err := o.patient()
	if err != nil {
		return err
	}
	in, err := o.read()
	if err != nil {
		return err
	}
	end := waiting(o.sh, "The sidecar checks and stores the credential")
	set, err := c.Set(cmd.Context(), o.slot(cmd, integration), in)
	end()
	if err != nil && set.Data.ID == "" {
		return err
	}
	// An error beside the result came after it was stored.
	return firstOf(err, o.tell(set.Data))
}

func (o *setOptions) tell(set wire.SetResult) error {
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, set)
	}
	done := "Rotated"
	if set.Version == 1 {
		done = "Set"
	}
	_, err := fmt.Fprintf(o.sh.out, "%s %s: version %d, %s\n", done,
		describe(set.IntegrationID, set.Environment, set.Name), set.Version, set.ID)
	return err
}

func (o *setOptions) read() (in client.SetInput, err error) {
	in.AuthType, in.Labels = o.authType, o.labels
	if in.ExpiresAt, err = parseExpiry(o.expires); err != nil {
		return in, err
	}
	if len(o.fields) > 0 && o.fromFile != "" {
		return in, usagef("--field and --from-file are both given").hinted("give a credential of one value, or one of fields")
	}
	if len(o.fields) > 0 {
		in.Fields, err = o.input.fields(o.fields)
		return in, err
	}
	source := "-"
	if o.fromFile != "" {
		source = "@" + o.fromFile
	}
	v, err := o.input.read("value", source)
	in.Value = &v
	return in, err
}

// splitField returns a field's name and where its value comes from. What is given
// is not quoted: it may be the secret.
func splitField(spec string) (name, source string, err error) {
	name, source, ok := strings.Cut(spec, "=")
	if ok && name != "" && (source == "-" || len(source) > 1 && source[0] == '@') {
		return name, source, nil
	}
	return "", "", usagef("--field takes no value itself: arguments can be seen by every user of this machine").
		hinted("give NAME=@FILE to read a file, or NAME=- to read standard input or be asked")
}
