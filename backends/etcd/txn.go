package etcd

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sidevault/sidevault/backends"
)

// etcd's default limits are 128 operations, and as many comparisons, in one
// transaction and 1.5 MiB in one request.
const (
	maxOps   = 120 // leaves room for those inside the looks
	maxGroup = 1 << 20
	overhead = 64 // bytes of a message around a key

	entryOverhead = 2*len(backends.Hash{}) + binary.MaxVarintLen32 // bytes of a log entry besides its body
)

// group is the requests of one transaction.
type group struct {
	requests        []*request
	full            bool
	ops, cmps, size int
	written         map[string]bool
}

// add takes the request into the group unless it does not fit, or names a key that
// the group writes: its fate depends on whether the group is applied.
func (g *group) add(l layout, r *request) bool {
	if g.written == nil {
		g.written = map[string]bool{}
	}
	ops, cmps, size := cost(l, r.batch)
	if len(g.requests) > 0 && (g.ops+ops > maxOps-1 || g.cmps+cmps > maxOps-1 || g.size+size > maxGroup) {
		g.full = true
		return false
	}
	for _, c := range r.batch.Changes {
		if g.written[c.Key] {
			return false
		}
	}
	for _, c := range r.batch.Changes {
		if c.Op != backends.OpCheck {
			g.written[c.Key] = true
		}
	}
	g.requests = append(g.requests, r)
	g.ops, g.cmps, g.size = g.ops+ops, g.cmps+cmps, g.size+size
	return true
}

// cost returns a bound of what the batch takes in a transaction.
func cost(l layout, b backends.Batch) (ops, cmps, size int) {
	for _, c := range b.Changes {
		cmps += 2
		if c.Op != backends.OpCheck {
			ops++
		}
		size += len(c.Value) + 6*(len(l)+len(c.Key)+overhead) // 2 comparisons, here and in the looks, put, journal
	}
	for _, body := range b.Entries {
		size += len(body) + entryOverhead
	}
	if len(b.Entries) > 0 {
		ops++
		size += len(l) + 2*overhead
	}
	return max(ops, len(b.Changes)), cmps, size
}

// txn is the transaction of a group on top of a position.
type txn struct {
	next     journal
	compares []clientv3.Cmp
	puts     []clientv3.Op
	looks    []clientv3.Op // what to find out if it is refused
	looked   bool          // whether that includes the verdicts
	checked  []backends.Change
	results  map[string]backends.Revision // of the keys that it writes; 0 for deleted
}

// plan makes the transaction of a group.
func (w *writer) plan(requests []*request, losses int) txn {
	t := txn{next: w.at.follow(), results: map[string]backends.Revision{}}
	t.compares = []clientv3.Cmp{w.unmoved()}
	t.looks = []clientv3.Op{clientv3.OpGet(w.layout.head())}
	size := 0
	for _, r := range requests {
		_, _, n := cost(w.layout, r.batch)
		size += n
		w.planBatch(&t, r.batch)
	}
	t.puts = append(t.puts, clientv3.OpPut(w.layout.head(), t.next.marshal()), clientv3.OpGet(w.layout.turn()))
	// With the largest batches the request has no room to name every key again:
	// they are looked at by a request of its own.
	if verdicts := w.verdicts(t); size <= maxGroup {
		t.looks = append(t.looks, verdicts...)
		t.looked = true
	}
	if losses >= patientLosses {
		t.looks = append(t.looks, clientv3.OpPut(w.layout.turn(), strconv.FormatInt(w.latency.Milliseconds()+1, 10)))
	}
	return t
}

// A writer far away from the cluster could lose the race for the head for ever to one
// that is near and never rests. After some losses it asks for a turn: it puts, into
// a key that every transaction reads, how many milliseconds its requests take, and
// the others rest for twice that time before their next commit.
const (
	patientLosses = 4
	longestYield  = 250 * time.Millisecond
)

// yield rests when somebody has asked for a turn since the last time.
func (w *writer) yield(resp *clientv3.TxnResponse) {
	asked := resp.Responses[len(resp.Responses)-1].GetResponseRange().GetKvs()
	if len(asked) == 0 || asked[0].ModRevision <= w.turn {
		return
	}
	first := w.turn == 0
	w.turn = asked[0].ModRevision
	if ms, err := strconv.Atoi(string(asked[0].Value)); err == nil && ms > 0 && !first {
		time.Sleep(min(2*time.Duration(ms)*time.Millisecond, longestYield))
	}
}

func (w *writer) planBatch(t *txn, b backends.Batch) {
	t.next.Revision++
	keys := []string{}
	for _, c := range b.Changes {
		t.checked = append(t.checked, c)
		t.compares = append(t.compares, w.layout.holds(c)...)
		switch c.Op {
		case backends.OpPut:
			t.puts = append(t.puts, clientv3.OpPut(w.layout.record(c.Key), marshalRecord(t.next.Revision, c.Value)))
			t.results[c.Key] = t.next.Revision
		case backends.OpDelete:
			t.puts = append(t.puts, clientv3.OpDelete(w.layout.record(c.Key)))
			t.results[c.Key] = 0
		case backends.OpCheck:
			continue
		}
		keys = append(keys, c.Key)
	}
	if len(b.Entries) > 0 {
		var entries []backends.Entry
		for _, body := range b.Entries {
			entries = append(entries, t.next.Append(body))
		}
		t.puts = append(t.puts, clientv3.OpPut(w.layout.run(entries)))
	}
	t.next.commits = append(t.next.commits, keys)
}

// unmoved is true while the head is the one at the writer's position.
func (w *writer) unmoved() clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(w.layout.head()), "=", w.at.mod)
}

// verdicts ask of each change whether its condition holds, as transactions that do
// nothing, inside another.
func (w *writer) verdicts(t txn) []clientv3.Op {
	ops := make([]clientv3.Op, len(t.checked))
	for i, c := range t.checked {
		ops[i] = clientv3.OpTxn(w.layout.holds(c), nil, nil)
	}
	return ops
}

// refused answers the requests whose conditions do not hold, and returns the others.
func (w *writer) refused(ctx context.Context, requests []*request, t txn, resp *clientv3.TxnResponse) []*request {
	at, err := parsePosition((*clientv3.GetResponse)(resp.Responses[0].GetResponseRange()))
	if err != nil {
		err = w.located(err)
	} else {
		err = w.continues(at, w.at.mod != 0)
	}
	if err != nil {
		w.known = false
		fail(requests, err)
		return nil
	}
	at.store = resp.Header.Revision
	if len(t.looks) > 1 && t.looks[len(t.looks)-1].IsPut() {
		w.turn = resp.Header.Revision
	}
	var verdicts []*pb.ResponseOp
	switch {
	case t.looked:
		verdicts = resp.Responses[1 : 1+len(t.checked)]
	case at.mod == w.at.mod:
		if verdicts, err = w.look(ctx, t); err != nil {
			fail(requests, w.notSent(err))
			return nil
		}
	}
	w.at = at
	return judge(requests, verdicts)
}

// look asks for the verdicts alone.
func (w *writer) look(ctx context.Context, t txn) ([]*pb.ResponseOp, error) {
	var verdicts []*pb.ResponseOp
	err := w.try(ctx, false, func(ctx context.Context) error {
		resp, err := w.client.Txn(ctx).Then(w.verdicts(t)...).Commit()
		if err == nil {
			verdicts = resp.Responses
		}
		return err
	})
	return verdicts, err
}

// judge answers the requests of which a condition does not hold. Without verdicts
// all are sent again.
func judge(requests []*request, verdicts []*pb.ResponseOp) []*request {
	if len(verdicts) == 0 {
		return requests
	}
	var rest []*request
	for _, r := range requests {
		var err error
		for _, c := range r.batch.Changes {
			if !verdicts[0].GetResponseTxn().Succeeded && err == nil {
				err = conflict(c)
			}
			verdicts = verdicts[1:]
		}
		if err != nil {
			r.answer(0, err)
			continue
		}
		rest = append(rest, r)
	}
	return rest
}

// refutes returns a conflict when the batch names a revision that the applied
// transaction has replaced.
func (t txn) refutes(b backends.Batch) error {
	for _, c := range b.Changes {
		if at, written := t.results[c.Key]; written && at != c.If {
			return conflict(c)
		}
	}
	return nil
}

func conflict(c backends.Change) error {
	if c.If == 0 {
		return fmt.Errorf("%w: key %q exists", backends.ErrConflict, c.Key)
	}
	return fmt.Errorf("%w: key %q has not revision %d", backends.ErrConflict, c.Key, c.If)
}
