package linear

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/sidevault/sidevault/backends"
)

type kind string

const (
	opSet     kind = "set"
	opCreate  kind = "create" // a set that must create
	opRemove  kind = "remove"
	opResolve kind = "resolve"
)

type outcome string

const (
	wasDone    outcome = "done"
	wasNone    outcome = "not found"
	wasGone    outcome = "already deleted"
	wasTaken   outcome = "exists"
	wasUnknown outcome = "unknown"     // applied or not
	wasNotDone outcome = "unavailable" // certainly not applied; not part of a history
)

// operation is one call of a client and what it was answered.
type operation struct {
	client, sidecar, slot int
	kind                  kind
	value                 string // given or found; each is given once
	outcome               outcome
	version               uint64
	revision              backends.Revision
	created               bool
	call, end             time.Duration
}

func (op operation) String() string {
	return fmt.Sprintf("%s slot %d by client %d of sidecar %d at %v to %v: %s, %s version %d, revision %d",
		op.kind, op.slot, op.client, op.sidecar, op.call, op.end, op.outcome, op.value, op.version, op.revision)
}

// name is that of the operation's slot.
func (op operation) name() string { return fmt.Sprintf("slot-%d", op.slot) }

// state is what a slot holds.
type state struct {
	live    bool
	version uint64
	value   string
	used    bool // it held something once
}

// steps returns the states that an operation on s with that answer can leave; none
// when that answer cannot be.
func steps(s state, op operation) []state {
	var after state
	applies := true
	switch op.kind {
	case opSet, opCreate:
		after = state{live: true, version: 1, value: op.value, used: true}
		if s.live {
			after.version = s.version + 1
		}
		applies = op.kind == opSet || !s.live
	case opRemove:
		after = state{used: true}
		applies = s.live
	case opResolve:
		after, applies = s, s.live
	}
	switch op.outcome {
	case wasDone:
		if !applies || op.answered() && op.version != after.version || op.setting() && op.created == s.live || op.value != after.value && op.kind == opResolve {
			return nil
		}
		return []state{after}
	case wasUnknown:
		if !applies {
			return []state{s}
		}
		return []state{s, after}
	case wasTaken:
		applies = op.kind == opCreate && s.live
	case wasGone:
		applies = op.kind == opRemove && !s.live && s.used
	case wasNone:
		applies = !s.live && (op.kind == opResolve || op.kind == opRemove && !s.used)
	}
	if !applies {
		return nil
	}
	return []state{s}
}

func (op operation) setting() bool  { return op.kind == opSet || op.kind == opCreate }
func (op operation) answered() bool { return op.setting() || op.kind == opResolve }

func model() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			slots := map[int][]porcupine.Operation{}
			for _, op := range history {
				slot := op.Input.(operation).slot
				slots[slot] = append(slots[slot], op)
			}
			var parts [][]porcupine.Operation
			for _, part := range slots {
				parts = append(parts, part)
			}
			return parts
		},
		Init: func() []any { return []any{state{}} },
		Step: func(s, in, _ any) []any {
			var all []any
			for _, next := range steps(s.(state), in.(operation)) {
				all = append(all, next)
			}
			return all
		},
		Equal:             func(a, b any) bool { return a == b },
		DescribeOperation: func(in, _ any) string { return in.(operation).String() },
		DescribeState:     func(s any) string { return fmt.Sprintf("%+v", s) },
	}
	return m.ToModel()
}

// linearizable reports whether there is an order that explains the answers.
func linearizable(history []operation, limit time.Duration) (porcupine.CheckResult, porcupine.LinearizationInfo) {
	var last time.Duration
	for _, op := range history {
		last = max(last, op.end)
	}
	ops := make([]porcupine.Operation, len(history))
	for n, op := range history {
		end := op.end
		if op.outcome == wasUnknown {
			end = last + 1 // it may be applied at any time
		}
		ops[n] = porcupine.Operation{ClientId: op.client, Input: op, Call: int64(op.call), Return: int64(end)}
		if op.outcome == wasUnknown {
			ops[n].ClientId = len(history) + n // its client went on
		}
	}
	return porcupine.CheckOperationsVerbose(model(), ops, limit)
}

// checkLimit bounds the search for an order.
const checkLimit = time.Minute

// check holds the history to what is promised.
func (r *run) check() {
	r.Helper()
	count := map[string]int{}
	for _, op := range r.history {
		count[string(op.kind)+" "+string(op.outcome)]++
	}
	r.Logf("%d operations in %v: %v", len(r.history), time.Since(r.began).Round(time.Millisecond), count)
	if len(r.history) < r.Operations/2 || count["set done"] == 0 || count["remove done"] == 0 || count["resolve done"] == 0 {
		r.Errorf("too little was done to tell anything")
	}
	history := r.history
	if r.Cached {
		history = slices.DeleteFunc(slices.Clone(history), func(op operation) bool { return op.kind == opResolve })
	}
	if result, info := linearizable(history, checkLimit); result != porcupine.Ok {
		r.Errorf("no order explains the answers: %s", result)
		path := filepath.Join(r.ArtifactDir(), "history.html")
		if err := porcupine.VisualizePath(model(), info, path); err != nil {
			r.Error(err)
		}
		r.Logf("go test -artifacts keeps %s", path)
	}
	for _, problem := range sessions(r.history) {
		r.Error(problem)
	}
}

// sessions returns what breaks the promises of a sidecar: every value comes with the
// revision that it was set at, and is never older than what the sidecar answered
// before to anybody.
func sessions(history []operation) (problems []string) {
	sets, removals, doubt := index(history)
	ordered := slices.SortedFunc(slices.Values(history), func(a, b operation) int { return cmp.Compare(a.end, b.end) })
	known := map[[2]int][]seen{} // by sidecar and slot, in the order of their ends
	for _, op := range ordered {
		place := [2]int{op.sidecar, op.slot}
		floor := floorAt(known[place], op.call)
		if op.kind == opResolve && op.outcome == wasDone {
			set, ok := sets[op.value]
			switch {
			case !ok || set.slot != op.slot || set.call > op.end:
				problems = append(problems, fmt.Sprintf("nobody had set it: %v", op))
			case set.outcome == wasDone && (set.revision != op.revision || set.version != op.version):
				problems = append(problems, fmt.Sprintf("a value with the metadata of another: %v; %v", op, set))
			case op.revision < floor:
				problems = append(problems, fmt.Sprintf("older than revision %d, which this sidecar answered from before: %v", floor, op))
			}
		}
		if op.kind == opResolve && op.outcome == wasNone {
			// It saw the state after some removal that is not older than the floor.
			i, exact := slices.BinarySearch(removals[op.slot], floor)
			switch {
			case floor == 0 || exact || doubt[op.slot]:
				op.revision = floor
			case i == len(removals[op.slot]):
				problems = append(problems, fmt.Sprintf("not found, though nothing was removed since revision %d, which this sidecar answered from before: %v", floor, op))
			default:
				op.revision = removals[op.slot][i]
			}
		}
		known[place] = append(known[place], seen{op.end, max(op.revision, lastOf(known[place]))})
	}
	return problems
}

// seen says that a sidecar had answered from a revision by then.
type seen struct {
	by       time.Duration
	revision backends.Revision
}

func lastOf(list []seen) backends.Revision {
	if len(list) == 0 {
		return 0
	}
	return list[len(list)-1].revision
}

// floorAt returns the highest revision that was answered from before a moment.
func floorAt(list []seen, at time.Duration) backends.Revision {
	i, _ := slices.BinarySearchFunc(list, at, func(s seen, at time.Duration) int { return cmp.Compare(s.by, at) })
	return lastOf(list[:i])
}

// index returns the sets by their value, the revisions of the removals of each slot,
// and whether there were removals whose revision nobody knows.
func index(history []operation) (sets map[string]operation, removals map[int][]backends.Revision, doubt map[int]bool) {
	sets, removals, doubt = map[string]operation{}, map[int][]backends.Revision{}, map[int]bool{}
	for _, op := range history {
		switch {
		case op.setting():
			sets[op.value] = op
		case op.kind == opRemove && op.outcome == wasDone && op.revision > 0:
			removals[op.slot] = append(removals[op.slot], op.revision)
		case op.kind == opRemove && (op.outcome == wasUnknown || op.outcome == wasDone):
			doubt[op.slot] = true
		}
	}
	for _, list := range removals {
		slices.Sort(list)
	}
	return sets, removals, doubt
}
