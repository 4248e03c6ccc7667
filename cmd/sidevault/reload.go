package main

import (
	"slices"

	"github.com/sidevault/sidevault/plugins/host"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/catalog"
)

// reload reads the plugins of the configuration file, the catalog and the
// certificate again. Each is checked, and held to the others, before it is put in
// force; what is broken leaves the old one in force, and the log says why.
func (s *sidecar) reload() {
	s.reloadPluginsAndCatalog()
	if s.certificate == nil {
		return
	}
	if err := s.certificate.load(s.cfg); err != nil {
		s.log.Error("the TLS certificate was not reloaded; the old one stays in force", "err", err)
	} else {
		s.log.Info("the TLS certificate was reloaded")
	}
}

// reloadPluginsAndCatalog puts both in force, or the one of them that is right with
// the old other one.
func (s *sidecar) reloadPluginsAndCatalog() {
	cfg, programs, pluginsErr := s.readPlugins()
	if pluginsErr != nil {
		cfg = s.cfg
	}
	c, catalogErr := loadCatalog(cfg)
	if catalogErr != nil {
		c = s.catalog
	}
	if pluginsErr == nil {
		// The old catalog may bind what the new configuration no longer has.
		pluginsErr = c.CheckPlugins(cfg.programNames())
	}
	if pluginsErr == nil {
		pluginsErr = s.plugins.reload(programs)
	}
	if pluginsErr != nil {
		s.log.Error("the plugins were not reloaded; the old ones stay in force", "err", pluginsErr)
	} else {
		if len(cfg.Programs)+len(s.cfg.Programs) > 0 {
			s.log.Info("the plugins were reloaded", "plugins", cfg.programNames())
		}
		s.cfg = cfg
	}
	if catalogErr == nil {
		// It was held to the new configuration, which may not be in force.
		catalogErr = c.CheckPlugins(s.cfg.programNames())
	}
	s.setCatalog(c, catalogErr)
}

// setCatalog puts a catalog in force. MCP names the catalog's keys in tools/list, so
// its clients are told when those are others.
func (s *sidecar) setCatalog(c *catalog.Catalog, err error) {
	if err != nil {
		s.log.Error("the catalog was not reloaded; the old one stays in force", "err", err)
		return
	}
	s.log.Info("the catalog was reloaded", "integrations", len(c.All()))
	s.catalog = c
	everyone := vault.Caller{Integrations: []string{vault.All}}
	before := s.vault.CatalogKeys(everyone)
	s.vault.SetCatalog(c)
	if !slices.Equal(before, s.vault.CatalogKeys(everyone)) {
		s.tools.ToolsChanged()
	}
}

// readPlugins reads the settings again, and returns those in force with the plugins
// of the new ones. Everything else takes a restart.
func (s *sidecar) readPlugins() (settings, []host.Program, error) {
	read, err := s.settings()
	if err != nil {
		return settings{}, nil, err
	}
	cfg := s.cfg
	cfg.PluginDir, cfg.Programs = read.PluginDir, read.Programs
	if read.Sandbox != cfg.Sandbox {
		s.log.Warn("plugins.sandbox has changed, which takes a restart")
	}
	programs, err := cfg.programs(s.plugins.dev)
	return cfg, programs, err
}
