package main

import (
	"path/filepath"
	"regexp"
	"testing"

	"github.com/sidevault/sidevault/vault/catalog"
)

var yamlBlockRE = regexp.MustCompile("(?s)```yaml\n# (sidevault|catalog)\\.yaml\n(.*?)```")

// The YAML of the guide is read as it stands.
func TestConfigurationOfTheGuide(t *testing.T) {
	blocks := yamlBlockRE.FindAllStringSubmatch(readFile(t, "../../docs/plugins.md"), -1)
	seen := map[string]int{}
	for _, block := range blocks {
		seen[block[1]]++
		file := writeFile(t, filepath.Join(t.TempDir(), block[1]+".yaml"), block[2], 0o600)
		if block[1] == "catalog" {
			if _, err := catalog.Load(file); err != nil {
				t.Errorf("%v\n%s", err, block[2])
			}
			continue
		}
		c, err := load(t, nil, "--config", file)
		if err != nil || len(c.Programs) != 1 || c.Programs[0].Name != "acme" {
			t.Errorf("%v\n%s", err, block[2])
		}
	}
	if seen["sidevault"] < 2 || seen["catalog"] < 2 {
		t.Errorf("the guide has the blocks %v", seen)
	}
}
