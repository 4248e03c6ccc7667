package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
)

type watchOptions struct {
	remote
	after string
	form  output
}

func newWatchCommand(sh *shell) *cobra.Command {
	o := watchOptions{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Print changes of credentials as they happen, never a value",
		Long: `Print a line for each change of a credential that the API key may see, until
interrupted. When the connection breaks it is made again, and no change is missed;
"reset" says that some were. As JSON each is a line, as YAML a document.`,
		Args: operands(),
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	o.remote.addFlags(cmd)
	cmd.Flags().StringVar(&o.after, "after", "", "`ID` of the last event that was seen, to go on from there")
	addOutputFlags(cmd, &o.form)
	return cmd
}

func (o *watchOptions) run(cmd *cobra.Command) error {
	c, err := o.client()
	if err != nil {
		return err
	}
	show := o.print
	if o.form.forPrograms() {
		show = o.printData
	}
	for e, err := range c.Watch(cmd.Context(), o.after) {
		if err != nil {
			return err
		}
		if err := show(e); err != nil {
			return err
		}
	}
	return nil
}

// shownEvent is an event for a program's eyes.
type shownEvent struct {
	ID string `json:"id,omitempty"`
	wire.WatchEvent
}

func (o *watchOptions) printData(e client.Event) error {
	return o.form.printLine(o.sh.out, shownEvent{ID: e.ID, WatchEvent: e.WatchEvent})
}

func (o *watchOptions) print(e client.Event) error {
	if e.Type == wire.WatchReset {
		_, err := fmt.Fprintln(o.sh.out, "reset    changes were missed")
		return err
	}
	text := describe(e.IntegrationID, e.Environment, e.Name)
	if c := e.Credential; c != nil {
		text += oneLine(fmt.Sprintf(": version %d, %s, %s by %s", c.Version, c.Status, showTime(&c.UpdatedAt), showActor(c.UpdatedBy)))
	}
	_, err := fmt.Fprintf(o.sh.out, "%-8s %s\n", oneLine(e.Type), text)
	return err
}
