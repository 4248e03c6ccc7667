// Package acceptance tests the real program from the outside.
//
// Every HTTP exchange goes through a recorder that holds it to api/openapi.yaml.
// A run of all tests fails when one of the documented answers was never seen.
package acceptance

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"testing"

	"github.com/sidevault/sidevault/api"
	"github.com/sidevault/sidevault/backends/testserver"
	"github.com/sidevault/sidevault/tools/acceptance/contract"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
	"github.com/sidevault/sidevault/tools/acceptance/syncfault"
)

var (
	document *contract.Document
	recorder *contract.Recorder
	binary   *sidecar.Binary
)

func TestMain(m *testing.M) {
	syncfault.Become()
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if document, err = contract.Load(api.OpenAPI()); err != nil {
		fmt.Fprintln(os.Stderr, "api/openapi.yaml:", err)
		return 1
	}
	recorder = contract.NewRecorder(document, &http.Transport{MaxIdleConnsPerHost: 64})
	if binary, err = sidecar.Build(recorder); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer binary.Remove()
	if code := testserver.Run(m); code != 0 || !complete() {
		return code
	}
	return reportUnseen()
}

// complete reports whether every test is to run.
func complete() bool {
	for _, name := range []string{"test.run", "test.skip", "test.list", "test.bench", "test.fuzz"} {
		if flag.Lookup(name).Value.String() != "" {
			return false
		}
	}
	return !testing.Short()
}

func reportUnseen() int {
	code := 0
	for _, answer := range recorder.Unseen() {
		if _, known := unprovoked[answer]; !known {
			fmt.Fprintf(os.Stderr, "no test has seen the documented answer %q\n", answer)
			code = 1
		}
	}
	for answer := range unprovoked {
		if recorder.Seen(answer) {
			fmt.Fprintf(os.Stderr, "%q stands among the answers that no test can provoke, and one has\n", answer)
			code = 1
		}
	}
	return code
}

// unprovoked are the documented answers that no test provokes, and why.
var unprovoked = map[string]string{}
