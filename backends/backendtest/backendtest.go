// Package backendtest holds every storage backend to the contract of package
// backends. A driver calls [Run] from a test:
//
//	func TestContract(t *testing.T) {
//		backendtest.Run(t, func(t *testing.T) backendtest.Open {
//			database := newDatabase(t) // empty, removed at the end of t
//			return func() (backends.Backend, error) { return mydriver.Open(database) }
//		}, nil)
//	}
//
// The suite tests behaviour, not speed, and needs nothing but the contract: it
// knows no engine. Failures of the machine (a full disk, a partition, a kill)
// are each driver's own to test.
package backendtest

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends"
)

// Open opens a handle on one storage. The suite closes each handle, and it opens
// the next one only after that unless the storage is Shared.
type Open func() (backends.Backend, error)

// Options say what kind of storage is tested, and how thoroughly.
type Options struct {
	// Volatile storage ends with its handle. The suite then holds the driver
	// to that (a new handle finds nothing) instead of to keeping everything.
	Volatile bool

	// Shared storage can have several handles open at a time. The suite then
	// also races two of them.
	Shared bool

	// Address creates storage as create does, and returns what [Child] opens it
	// by. With it the suite races two processes too.
	Address func(t *testing.T) (open Open, address string)

	// Disconnect breaks the connections that the open handles have to the
	// engine, which itself runs on. With it the suite watches and commits while
	// they break; a handle must recover by itself.
	Disconnect func()

	// Steps is how many random batches are compared with the model. The
	// default is 300; the variable BACKENDTEST_STEPS overrides it.
	Steps int

	// Seed makes the random batches repeatable. The default is the time; the
	// variable BACKENDTEST_SEED overrides it. A failing test prints it.
	Seed int64
}

// patience is how long the suite waits for what must happen.
const patience = 20 * time.Second

// Run tests the storage that create makes. It calls create once for each test, and
// expects empty storage from it that nobody else uses.
func Run(t *testing.T, create func(t *testing.T) Open, o *Options) {
	s := &suite{create: create}
	if o != nil {
		s.Options = *o
	}
	s.Steps = int(setting(t, "BACKENDTEST_STEPS", int64(s.Steps), 300))
	s.Seed = setting(t, "BACKENDTEST_SEED", s.Seed, time.Now().UnixNano())
	for _, c := range s.cases() {
		t.Run(c.name, func(t *testing.T) { s.run(t, c.test) })
	}
}

type suite struct {
	Options
	create func(t *testing.T) Open
}

type testCase struct {
	name string
	test func(*subject)
}

func (s *suite) cases() []testCase {
	cases := []testCase{
		{"Empty", testEmpty}, {"PutGet", testPutGet}, {"Delete", testDelete}, {"Check", testCheck},
		{"Refused", testRefused}, {"Values", testValues}, {"Ownership", testOwnership},
		{"Keys", testKeys}, {"InvalidKeys", testInvalidKeys}, {"InvalidBatches", testInvalidBatches},
		{"InvalidLimits", testInvalidLimits}, {"LargestBatch", testLargestBatch},
		{"List", testList}, {"ListPages", testListPages}, {"ListWhileWriting", testListWhileWriting},
		{"Model", testModel},
		{"CreateRace", testCreateRace}, {"CounterRace", testCounterRace}, {"TransferRace", testTransferRace},
		{"NoFalseConflicts", testNoFalseConflicts},
		{"Log", testLog}, {"LogContention", testLogContention}, {"HeadConsistent", testHeadConsistent},
		{"Watch", testWatch}, {"WatchContention", testWatchContention}, {"WatchResume", testWatchResume},
		{"WatchOwnership", testWatchOwnership}, {"WatchCancel", testWatchCancel},
		{"WatchClose", testWatchClose}, {"WatchSlow", testWatchSlow},
		{"Closed", testClosed}, {"CloseUnderLoad", testCloseUnderLoad},
		{"Cancelled", testCancelled}, {"CancelRace", testCancelRace},
		{"Reopen", testReopen},
	}
	if s.Shared {
		cases = append(cases, testCase{"SharedRace", testSharedRace}, testCase{"SharedCreate", testSharedCreate},
			testCase{"SharedConflict", testSharedConflict}, testCase{"SharedList", testSharedList},
			testCase{"SharedWatch", testSharedWatch}, testCase{"SharedClose", testSharedClose})
	}
	if s.Address != nil {
		cases = append(cases, testCase{"Processes", testProcesses})
	}
	if s.Disconnect != nil {
		cases = append(cases, testCase{"Reconnect", testReconnect})
	}
	return cases
}

// run gives test storage and a handle of its own, and looks afterwards for
// goroutines that outlived the handle.
func (s *suite) run(t *testing.T, test func(*subject)) {
	open := s.create(t)
	before := goroutines()
	u := &subject{T: t, suite: s, open: open}
	u.Backend = u.mustOpen()
	test(u)
	if err := u.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	checkGoroutines(t, before)
}

// subject is one test and the handle that it tests.
type subject struct {
	*testing.T
	backends.Backend
	suite *suite
	open  Open
}

func (u *subject) mustOpen() backends.Backend {
	u.Helper()
	b, err := u.open()
	if err != nil {
		u.Fatalf("open: %v", err)
	}
	u.Cleanup(func() { b.Close() })
	return b
}

// reopen closes the handle and takes a new one on the same storage.
func (u *subject) reopen() {
	u.Helper()
	if err := u.Close(); err != nil {
		u.Fatalf("Close: %v", err)
	}
	u.Backend = u.mustOpen()
}

func (u *subject) commit(changes ...backends.Change) backends.Revision {
	u.Helper()
	return u.commitBatch(backends.Batch{Changes: changes})
}

func (u *subject) commitBatch(b backends.Batch) backends.Revision {
	u.Helper()
	rev, err := u.Commit(u.Context(), b)
	if err != nil {
		u.Fatalf("Commit: %v", err)
	}
	return rev
}

// refuse expects the batch to fail with want and to leave nothing.
func (u *subject) refuse(want error, b backends.Batch) {
	u.Helper()
	before := u.head()
	if _, err := u.Commit(u.Context(), b); !errors.Is(err, want) {
		u.Errorf("Commit: got %v, want %v", err, want)
	}
	if after := u.head(); after != before {
		u.Errorf("a refused batch moved the head from %v to %v", before, after)
	}
}

func (u *subject) head() backends.Head {
	u.Helper()
	h, err := u.Head(u.Context())
	if err != nil {
		u.Fatalf("Head: %v", err)
	}
	return h
}

func (u *subject) expect(key, value string, at backends.Revision) {
	u.Helper()
	r, err := u.Get(u.Context(), key)
	if err != nil {
		u.Errorf("Get(%q): %v", key, err)
		return
	}
	if r.Key != key || string(r.Value) != value || r.Revision != at {
		u.Errorf("Get(%q) = %q, %q at %d; want %q at %d", key, r.Key, abridge(r.Value), r.Revision, abridge([]byte(value)), at)
	}
}

func (u *subject) expectNone(key string) {
	u.Helper()
	if r, err := u.Get(u.Context(), key); !errors.Is(err, backends.ErrNotFound) {
		u.Errorf("Get(%q) = %q, %v; want %v", key, abridge(r.Value), err, backends.ErrNotFound)
	}
}

// all reads every record, in pages of limit.
func (u *subject) all(prefix string, limit int) []backends.Record {
	u.Helper()
	var records []backends.Record
	for after := ""; ; after = records[len(records)-1].Key {
		page, err := u.List(u.Context(), prefix, after, limit)
		if err != nil {
			u.Fatalf("List(%q, %q, %d): %v", prefix, after, limit, err)
		}
		if len(page) > 0 && page[0].Key <= after {
			u.Fatalf("List(%q, %q, %d) begins with %q", prefix, after, limit, page[0].Key)
		}
		records = append(records, page...)
		if len(page) < limit {
			return records
		}
	}
}

// chain reads the whole log, in pages of limit, and verifies it up to the head.
func (u *subject) chain(limit int) []backends.Entry {
	u.Helper()
	var entries []backends.Entry
	var last backends.Entry
	for {
		page, err := u.Log(u.Context(), last.Seq, limit)
		if err != nil {
			u.Fatalf("Log(%d, %d): %v", last.Seq, limit, err)
		}
		for _, e := range page {
			if err := e.Follows(last.Seq, last.Hash); err != nil {
				u.Fatalf("log: %v", err)
			}
			last = e
		}
		entries = append(entries, page...)
		if len(page) < limit {
			break
		}
	}
	if h := u.head(); h.Seq != last.Seq || h.Hash != last.Hash {
		u.Errorf("the head is at entry %d (%v), the log ends at %d (%v)", h.Seq, h.Hash, last.Seq, last.Hash)
	}
	return entries
}

func abridge(value []byte) []byte {
	if len(value) > 64 {
		return fmt.Appendf(nil, "%s... (%d bytes)", value[:64], len(value))
	}
	return value
}

func setting(t *testing.T, name string, chosen, otherwise int64) int64 {
	text, ok := os.LookupEnv(name)
	if ok {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n
	}
	if chosen != 0 {
		return chosen
	}
	return otherwise
}

// goroutines returns the stacks of those that exist, by their numbers.
func goroutines() map[string]string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	stacks := map[string]string{}
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		if fields := strings.Fields(stack); len(fields) > 1 {
			stacks[fields[1]] = stack
		}
	}
	return stacks
}

func checkGoroutines(t *testing.T, before map[string]string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		after := goroutines()
		for id := range before {
			delete(after, id)
		}
		if len(after) == 0 {
			return
		}
		if time.Now().After(deadline) {
			for _, stack := range after {
				t.Errorf("a goroutine outlived Close:\n%s", stack)
			}
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// together runs n calls at once and waits for all of them.
func together(n int, call func(i int)) {
	done := make(chan struct{})
	for i := range n {
		go func() {
			defer func() { done <- struct{}{} }()
			call(i)
		}()
	}
	for range n {
		<-done
	}
}
