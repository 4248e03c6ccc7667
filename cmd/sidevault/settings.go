package main

import (
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"github.com/sidevault/sidevault/api/jwt"
	"github.com/sidevault/sidevault/api/peercred"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/plugins/host"
	"github.com/sidevault/sidevault/vault"
)

// settings is the configuration of a sidecar.
type settings struct {
	DataDir         string
	Storage         storageURL
	Identities      []string // files
	PassphraseFD    int      // noDescriptor: none
	Listen          []address
	DebugListen     *address // nil: none
	SocketMode      fs.FileMode
	Environments    *envs.Tree
	Catalog         []string
	ReadAudit       vault.ReadAudit
	KeepVersions    int
	LogLevel        slog.Level
	LogFormat       string
	TLSCert, TLSKey string
	TrustedProxies  []netip.Prefix
	ShutdownTimeout time.Duration
	JWT             jwt.Config // without what comes from the vault
	Peers           []peercred.Rule
	PluginDir       string
	Sandbox         host.Sandbox
	Programs        []programSpec
	Backups         backupPlan
	Tracing         tracingPlan
	LockMemory      bool
	CacheSize       int
	MaxStale        time.Duration
	Limits          limits

	backendFile string // the file that Storage was read from, "" for none

	file  string // the configuration file, "" for none
	sh    *shell
	roots *[]age.Identity // of Identities, once they are read; copies share it
	given map[string]bool // keys that a file, a variable or a flag set
}

const (
	variablePrefix = "SIDEVAULT_"
	configFlag     = "config"
	configVariable = variablePrefix + "CONFIG"
)

// flag returns the setting's flag, which is its key with hyphens.
func (s setting) flag() string { return strings.ReplaceAll(s.key, ".", "-") }

// variable returns the setting's environment variable.
func (s setting) variable() string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(s.flag(), "-", "_"))
}

// addSettings declares the flags of the settings with those keys, of all when
// none is given, and --config.
func addSettings(flags *pflag.FlagSet, keys ...string) {
	flags.String(configFlag, "", "read settings from the YAML `file` ("+configVariable+")")
	for _, s := range table() {
		wanted := len(keys) == 0 || slices.Contains(keys, s.key) || s.key == passphraseKey && slices.Contains(keys, identityKey)
		if s.fileOnly || !wanted {
			continue
		}
		help := fmt.Sprintf("%s (%s)", s.help, s.variable())
		if s.list {
			flags.StringSlice(s.flag(), s.def, help)
		} else {
			flags.String(s.flag(), strings.Join(s.def, ""), help)
		}
	}
}

// loadSettings merges the defaults, the file, the environment and the flags, the
// later over the earlier.
func loadSettings(flags *pflag.FlagSet, sh *shell) (settings, error) {
	file := configFile{}
	path := configPath(flags, sh)
	if path != "" {
		var err error
		if file, err = readConfig(path); err != nil {
			return settings{}, err
		}
	}
	given, err := givenSettings(flags, sh, file)
	if err != nil {
		return settings{}, err
	}
	merged := koanf.New(".")
	if err := merged.Load(confmap.Provider(defaults(), "."), nil); err != nil {
		return settings{}, err
	}
	if err := merged.Merge(given); err != nil {
		return settings{}, err
	}
	cfg := settings{file: path, sh: sh, roots: new([]age.Identity), given: map[string]bool{}}
	for _, s := range table() {
		cfg.given[s.key] = given.Exists(s.key)
		if err := s.apply(&cfg, values(merged, s)); err != nil {
			return settings{}, usagef("%s: %s", origin(s, flags, sh, file), err)
		}
	}
	if err := cfg.keepSecret(flags, sh, file); err != nil {
		return settings{}, err
	}
	return cfg.complete()
}

func configPath(flags *pflag.FlagSet, sh *shell) string {
	if path, _ := flags.GetString(configFlag); path != "" {
		return path
	}
	return sh.getenv(configVariable)
}

func defaults() map[string]any {
	m := map[string]any{}
	for _, s := range table() {
		m[s.key] = s.value(strings.Join(s.def, ","))
	}
	return m
}

// givenSettings merges what is not a default.
func givenSettings(flags *pflag.FlagSet, sh *shell, file configFile) (*koanf.Koanf, error) {
	k := koanf.New(".")
	if err := k.Load(confmap.Provider(file.values, "."), nil); err != nil {
		return nil, err
	}
	variables := env.Provider(".", env.Opt{
		Prefix: variablePrefix, EnvironFunc: func() []string { return sh.environ }, TransformFunc: fromVariable,
	})
	if err := k.Load(variables, nil); err != nil {
		return nil, err
	}
	return k, k.Load(posflag.ProviderWithFlag(flags, ".", nil, fromFlag(flags)), nil)
}

// fromVariable passes over variables that are no setting: an orchestrator makes
// SIDEVAULT_SERVICE_HOST and the like for a service of that name.
func fromVariable(name, value string) (string, any) {
	for _, s := range table() {
		if s.variable() == name && value != "" && !s.fileOnly {
			return s.key, s.value(value)
		}
	}
	return "", nil
}

func fromFlag(flags *pflag.FlagSet) func(*pflag.Flag) (string, any) {
	return func(f *pflag.Flag) (string, any) {
		for _, s := range table() {
			if s.flag() == f.Name {
				return s.key, posflag.FlagVal(flags, f)
			}
		}
		return "", nil
	}
}

// value returns what koanf is given for the text of a variable or a default.
func (s setting) value(text string) any {
	if !s.list {
		return text
	}
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

func values(k *koanf.Koanf, s setting) []string {
	if s.list {
		return k.Strings(s.key)
	}
	return []string{k.String(s.key)}
}

// origin names where a setting's value came from, for the one who must mend it.
func origin(s setting, flags *pflag.FlagSet, sh *shell, file configFile) string {
	if f := flags.Lookup(s.flag()); f != nil && f.Changed {
		return "--" + s.flag()
	}
	if !s.fileOnly && sh.getenv(s.variable()) != "" {
		return s.variable()
	}
	return file.places[s.key] + ": " + s.key
}
