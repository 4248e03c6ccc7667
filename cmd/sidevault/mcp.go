package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/mcp"
	overhttp "github.com/sidevault/sidevault/api/mcp/remote"
	"github.com/sidevault/sidevault/api/wire"
)

func newMCPCommand(sh *shell) *cobra.Command {
	r := remote{sh: sh}
	cmd := &cobra.Command{
		Use:   "mcp",
		Short: "Serve the tools for agents over standard input and output",
		Long: `Serve the Model Context Protocol over standard input and output, for a program that
starts its MCP servers itself. What the tools do, a running sidecar does; which of
them there are depends on the scope of the API key.

A sidecar serves the same tools over HTTP, at /mcp.`,
		Example: "  SIDEVAULT_TOKEN_FILE=~/.config/sidevault/key sidevault mcp",
		Args:    operands(),
		RunE:    func(cmd *cobra.Command, _ []string) error { return serveMCP(cmd.Context(), &r) },
	}
	r.addFlags(cmd)
	return cmd
}

// serveMCP serves until the input ends or a signal comes. Standard output belongs to
// the protocol, so what there is to say goes to standard error.
func serveMCP(ctx context.Context, r *remote) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Secrets pass through here.
	if err := harden(); err != nil {
		return err
	}
	token, err := r.token()
	if err != nil {
		return err
	}
	c, err := r.connect(token, client.Options{UserAgent: wire.MCPAgent + version()})
	if err != nil {
		return err
	}
	defer c.Close()
	log := slog.New(slog.NewTextHandler(r.sh.err, nil))
	server := mcp.New(mcp.Config{Version: version(), Logger: log})
	return server.ServeStdio(ctx, mcp.Caller{Port: overhttp.New(c)}, r.sh.in, r.sh.out)
}
