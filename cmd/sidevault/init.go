package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

type initOptions struct {
	recovery     []string
	postQuantum  bool
	adminKeyFile string
	adminEmail   string
	org          string
	form         output
}

func newInitCommand(sh *shell) *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a vault",
		Long: `Make a vault in the data directory: its identity, its storage and its first
API key, which is printed once. A directory that holds a vault is left alone.

With a storage that hosts share (PostgreSQL, etcd) the vault is made there, and the
data directory gets the identity and vault.pub. Run init on one host; the others get
a copy of these two files. A storage that holds a vault is left alone.`,
		Example: `  sidevault init --data-dir /var/lib/sidevault --admin-key-file admin.key
  sidevault init --backend-file /etc/sidevault/backend.url --admin-key-file admin.key`,
		Args: operands(),
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd, sh) },
	}
	flags := cmd.Flags()
	addSettings(flags, append(storageKeys(), environmentsKey)...)
	flags.StringArrayVar(&o.recovery, "recipient", nil, "`recipient` that can open every key too: age1..., ssh-ed25519 ..., ssh-rsa ...; repeat it for more")
	flags.BoolVar(&o.postQuantum, "post-quantum", false, "make hybrid keys, which withstand quantum computers, throughout")
	flags.StringArrayVar(&o.recovery, "recovery-recipient", nil, "age `recipient` that can open the vault too; repeat it for more")
	flags.StringVar(&o.adminKeyFile, "admin-key-file", "", "write the admin key to this new `file` instead of printing it")
	flags.StringVar(&o.adminEmail, "admin-email", "", "e-mail `address` of who answers for the admin key")
	flags.StringVar(&o.org, "org", defaultOrg, "`slug` of the first org")
	addOutputFlags(cmd, &o.form)
	return cmd
}

func (o initOptions) run(cmd *cobra.Command, sh *shell) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	restrictFiles()
	cfg, err := loadSettings(cmd.Flags(), sh)
	if err != nil {
		return err
	}
	c, err := o.creation(cfg)
	if err != nil {
		return err
	}
	made, err := create(ctx, c)
	if err != nil {
		return err
	}
	if o.form.forPrograms() {
		return o.form.print(sh.out, o.result(c, made))
	}
	return o.tell(sh, cfg, c, made)
}

func (o initOptions) creation(cfg settings) (creation, error) {
	if !cfg.Storage.shared() && filepath.Dir(cfg.Storage.path) != cfg.DataDir {
		return creation{}, usagef("init makes the vault's file in the data directory %s, and backend is %s", cfg.DataDir, cfg.Storage).
			hinted("give --data-dir the directory of the file")
	}
	c := creation{
		dir: cfg.DataDir, storage: cfg.Storage, recovery: o.recovery, postQuantum: o.postQuantum,
		adminKeyFile: o.adminKeyFile, adminEmail: o.adminEmail, org: o.org, envs: cfg.Environments,
	}
	if cfg.given[identityKey] {
		ids, err := cfg.rootIdentities()
		if err != nil {
			return creation{}, err
		}
		c.identity, c.ids = strings.Join(cfg.Identities, ","), ids
	}
	return c, nil
}

// initResult is what --json prints.
type initResult struct {
	DataDir      string `json:"dataDir"`
	Vault        string `json:"vault"`
	VaultID      string `json:"vaultId"`
	Identity     string `json:"identity"`
	Org          string `json:"org"`
	AdminKey     string `json:"adminKey,omitempty"`
	AdminKeyID   string `json:"adminKeyId"`
	AdminKeyFile string `json:"adminKeyFile,omitempty"`
}

func (o initOptions) result(c creation, made created) initResult {
	r := initResult{
		DataDir: c.dir, Vault: c.place(), VaultID: made.VaultID,
		Identity: made.identity, Org: made.Org.Slug, AdminKeyID: made.Admin.ID, AdminKeyFile: c.adminKeyFile,
	}
	if c.adminKeyFile == "" {
		r.AdminKey = made.Admin.Secret.Reveal()
	}
	return r
}

// tell prints what was made, for a person.
func (o initOptions) tell(sh *shell, cfg settings, c creation, made created) error {
	key := made.Admin.Secret.Reveal() + "   (shown this once)"
	if c.adminKeyFile != "" {
		key = "in " + c.adminKeyFile
	}
	serve := "sidevault serve --data-dir " + quoted(c.dir)
	if c.identity != "" {
		serve += " " + identityFlags("--identity", cfg.Identities)
	}
	if cfg.file != "" {
		serve += " --config " + quoted(cfg.file)
	}
	serve += cfg.storageFlag()
	others := ""
	if !c.inDir() {
		others = fmt.Sprintf("Further hosts need a copy of %s and of %s, and no init.\n", made.identity, filepath.Join(c.dir, trustFile))
	}
	_, err := fmt.Fprintf(sh.out, `Made the vault %s.

  vault      %s
  identity   %s
  admin key  %s

Back up the identity now, apart from the vault: without it nobody can open the
vault, and with both anybody can.
%s
Next: %s
`, made.VaultID, c.place(), made.identity, key, others, serve)
	return err
}

// place is where the vault is, for a person.
func (c creation) place() string {
	if c.inDir() {
		return c.storage.path
	}
	return c.storage.String()
}

// storageFlag is the flag that names a shared storage again, where a flag did.
func (c settings) storageFlag() string {
	switch {
	case c.backendFile != "":
		return " --" + backendFileKey + " " + quoted(c.backendFile)
	case c.Storage.shared() && !holdsPassword(c.Storage) && c.file == "":
		return " --" + backendKey + " " + quoted(c.Storage.String())
	}
	return ""
}
