package transfer

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
)

// Mapping says where the names of a file belong. It is YAML, and so JSON:
//
//	SF_TOKEN: salesforce                          # the value of salesforce
//	SLACK_HOOK: {integration: slack, field: webhook_url}
//	secret/prod/files: {integration: sftp, environment: production, name: emea}
//	SFTP Server: {integration: sftp, fields: {user: username, url: ""}}   # "" leaves it out
//	PORT: {skip: true}
type Mapping map[string]Target

// Target is where a name belongs.
type Target struct {
	Integration string
	Field       string            // of a variable; "" is the value
	Fields      map[string]string // of a record: new names of fields, "" leaves one out
	Environment string            // "": as the file or the command line says
	Name        string
	Skip        bool
}

// plainTarget is Target as YAML has it.
type plainTarget struct {
	Integration string            `yaml:"integration"`
	Field       string            `yaml:"field"`
	Fields      map[string]string `yaml:"fields"`
	Environment string            `yaml:"environment"`
	Name        string            `yaml:"name"`
	Skip        bool              `yaml:"skip"`
}

// UnmarshalYAML reads an integration's key alone, or an object.
func (t *Target) UnmarshalYAML(decode func(any) error) error {
	var key string
	if decode(&key) == nil {
		*t = Target{Integration: key}
		return nil
	}
	var p plainTarget
	if err := decode(&p); err != nil {
		return err
	}
	*t = Target(p)
	return nil
}

// ParseMapping reads a mapping. An unknown key, or a target without an integration, is
// an error with its line.
func ParseMapping(data []byte) (Mapping, error) {
	var m Mapping
	if err := yaml.UnmarshalWithOptions(data, &m, yaml.Strict()); err != nil {
		first, _, _ := strings.Cut(yaml.FormatError(err, false, false), "\n")
		return nil, errors.New(first)
	}
	for name, t := range m {
		if t.Field != "" && t.Integration == "" {
			return nil, fmt.Errorf("%s: a field needs its integration", name)
		}
		if !t.Skip && t.Integration == "" && len(t.Fields) == 0 && t.Environment == "" && t.Name == "" {
			return nil, fmt.Errorf("%s: say an integration, or skip: true", name)
		}
	}
	return m, nil
}

func (m Mapping) of(source string) (Target, bool) {
	t, ok := m[source]
	return t, ok && source != ""
}
