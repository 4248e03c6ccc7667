package contract

import "fmt"

// Report says how a program stands to the contract.
type Report struct {
	Kind    Kind     `json:"kind"`
	Name    string   `json:"name,omitempty"`    // as the program says
	Version string   `json:"version,omitempty"` // as the program says
	Results []Result `json:"results"`
}

// Status is how one check went.
type Status string

// The outcomes of a check.
const (
	Passed  Status = "pass"
	Failed  Status = "fail"
	Skipped Status = "skipped"
)

// Result is how a program stands to one demand.
type Result struct {
	Name   string `json:"name"`
	Demand string `json:"demand"` // what is checked
	Status Status `json:"status"`
	Reason string `json:"reason,omitempty"` // unless it passed: what happened, without a secret
	Advice string `json:"advice,omitempty"` // with a failure: what the author should do
}

// OK reports whether nothing failed.
func (r Report) OK() bool { return r.Count(Failed) == 0 }

// Count returns how many checks ended so.
func (r Report) Count(s Status) int {
	n := 0
	for _, result := range r.Results {
		if result.Status == s {
			n++
		}
	}
	return n
}

// outcome is how a check went, before it has its name.
type outcome struct {
	status Status
	reason string
}

func pass() outcome { return outcome{status: Passed} }

func failf(format string, args ...any) outcome {
	return outcome{Failed, fmt.Sprintf(format, args...)}
}

func skipf(format string, args ...any) outcome {
	return outcome{Skipped, fmt.Sprintf(format, args...)}
}
