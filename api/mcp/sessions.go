package mcp

import (
	"sync"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// sessions knows whose each session is and when it was last used. The SDK has the
// sessions themselves, and ends those that nobody uses.
type sessions struct {
	server *sdk.Server
	all    int // at most so many
	each   int // and of one owner

	opening sync.Mutex // so that the limits hold

	mu   sync.Mutex
	uses map[string]use // by session ID
}

type use struct {
	owner string
	at    time.Time
}

func newSessions(server *sdk.Server, o HTTPOptions) *sessions {
	return &sessions{server: server, all: o.Sessions, each: o.Each, uses: map[string]use{}}
}

// use notes that an owner uses a session, and reports whether it is theirs.
func (s *sessions) use(id, owner string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u, known := s.uses[id]; !known || u.owner != owner {
		return false
	}
	s.uses[id] = use{owner, time.Now()}
	return true
}

// open opens a session with a function that returns its ID, or "" when it did not. A
// limit that is reached costs the one that was used longest ago: its client finds it
// gone and opens another.
func (s *sessions) open(owner string, begin func() string) {
	s.opening.Lock()
	defer s.opening.Unlock()
	for _, old := range s.makeRoom(owner) {
		// Closing waits for what is under way in the session.
		go old.Close()
	}
	if id := begin(); id != "" {
		s.mu.Lock()
		s.uses[id] = use{owner, time.Now()}
		s.mu.Unlock()
	}
}

// makeRoom forgets sessions that have ended, and returns those that must.
func (s *sessions) makeRoom(owner string) (end []*sdk.ServerSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	live := map[string]*sdk.ServerSession{}
	for session := range s.server.Sessions() {
		live[session.ID()] = session
	}
	for id := range s.uses {
		if live[id] == nil {
			delete(s.uses, id)
		}
	}
	for {
		oldest := s.oldest(owner)
		if oldest == "" {
			return end
		}
		end = append(end, live[oldest])
		delete(s.uses, oldest)
	}
}

// oldest returns the session to end before another one is opened, or "".
func (s *sessions) oldest(owner string) string {
	mine, oldestMine, oldest := 0, "", ""
	for id, u := range s.uses {
		if oldest == "" || u.at.Before(s.uses[oldest].at) {
			oldest = id
		}
		if u.owner != owner {
			continue
		}
		mine++
		if oldestMine == "" || u.at.Before(s.uses[oldestMine].at) {
			oldestMine = id
		}
	}
	switch {
	case mine >= s.each:
		return oldestMine
	case len(s.uses) >= s.all:
		return oldest
	}
	return ""
}
