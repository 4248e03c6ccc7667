package memory_test

import (
	"testing"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/backendtest"
	"github.com/sidevault/sidevault/backends/memory"
)

func TestContract(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backendtest.Open {
		return func() (backends.Backend, error) { return memory.New(), nil }
	}, &backendtest.Options{Volatile: true})
}
