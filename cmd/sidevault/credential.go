package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
)

func newCredentialCommand(sh *shell) *cobra.Command {
	return group("credential", "Manage credentials by their ID",
		newCredentialListCommand(sh), newCredentialShowCommand(sh), newCredentialCreateCommand(sh),
		newCredentialUpdateCommand(sh), newCredentialDeleteCommand(sh), newCredentialVersionsCommand(sh),
		newCredentialRollbackCommand(sh), newCredentialUsageCommand(sh), newCredentialRestoreCommand(sh),
	)
}

// oneCredential is a command about one credential, named by its ID.
type oneCredential struct {
	remote
	form output
}

func (o *oneCredential) addFlags(cmd *cobra.Command) {
	o.remote.addFlags(cmd)
	addOutputFlags(cmd, &o.form)
}

// find returns a client and the credential with that ID.
func (o *oneCredential) find(ctx context.Context, id string) (*client.Client, client.Described, error) {
	c, err := o.patient()
	if err != nil {
		return nil, client.Described{}, err
	}
	found, err := c.Get(ctx, id)
	return c, found, err
}

// tell prints a credential that has changed.
func (o *oneCredential) tell(done string, c wire.Credential) error {
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, c)
	}
	_, err := fmt.Fprintf(o.sh.out, "%s %s: version %d, %s, %s\n", done,
		describe(c.IntegrationID, c.Environment, c.Name), c.Version, c.Status, c.ID)
	return err
}

func printCredential(sh *shell, c wire.Credential) error {
	return printPairs(sh.out,
		"credential", describe(c.IntegrationID, c.Environment, c.Name),
		"id", c.ID,
		"status", c.Status,
		"version", fmt.Sprint(c.Version),
		"auth type", c.AuthType,
		"labels", showLabels(c.Labels),
		"created", showTime(&c.CreatedAt)+" by "+showActor(c.CreatedBy),
		"updated", showTime(&c.UpdatedAt)+" by "+showActor(c.UpdatedBy),
		"expires", showTime(c.ExpiresAt),
	)
}

func showLabels(labels map[string]string) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, name+"="+labels[name])
	}
	return strings.Join(list, ", ")
}
