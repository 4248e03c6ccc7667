package acceptance

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// image reads what a process has in memory that it may write to: heap, stacks, data.
// Only root may: the process is not dumpable.
func image(t *testing.T, pid int, found func(chunk []byte)) (size int) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for line := range strings.Lines(string(maps)) {
		f := strings.Fields(line)
		from, to, _ := strings.Cut(f[0], "-")
		begin, err1 := strconv.ParseUint(from, 16, 63)
		end, err2 := strconv.ParseUint(to, 16, 63)
		if err := errors.Join(err1, err2); err != nil || !strings.HasPrefix(f[1], "rw") || shadow(begin) {
			continue
		}
		size += scan(mem, int64(begin), int64(end), found)
	}
	return size
}

// shadow reports whether an address is in what the race detector keeps of others, and
// not in what Go or the C library allocate.
func shadow(address uint64) bool { return address >= 0x100000000000 && address < 0x7e0000000000 }

// scan reads a range in pieces that overlap by more than what is looked for has bytes.
func scan(mem *os.File, begin, end int64, found func([]byte)) (size int) {
	const piece, overlap = 4 << 20, 256
	buf := make([]byte, piece+overlap)
	for at := begin; at < end; at += piece {
		n, err := mem.ReadAt(buf[:min(int64(len(buf)), end-at)], at)
		if err != nil && !errors.Is(err, io.EOF) && n == 0 {
			continue // a guard page, or what was never used
		}
		found(buf[:n])
		size += n
	}
	return size
}

func canaries(t *testing.T, n int) []string {
	t.Helper()
	list := make([]string, n)
	for i := range list {
		random := make([]byte, 24)
		if _, err := rand.Read(random); err != nil {
			t.Fatal(err)
		}
		list[i] = "canary-" + hex.EncodeToString(random)
	}
	return list
}

// remembered counts the canaries that are in the memory of a sidecar.
func remembered(t *testing.T, s *sidecar.Sidecar, list []string) (canaries, copies, size int) {
	t.Helper()
	counts := map[string]int{}
	size = image(t, s.PID(), func(chunk []byte) {
		for rest := chunk; ; {
			i := bytes.Index(rest, []byte("canary-"))
			if i < 0 || len(rest)-i < len(list[0]) {
				return
			}
			counts[string(rest[i:i+len(list[0])])]++
			rest = rest[i+1:]
		}
	})
	for _, c := range list {
		if counts[c] > 0 {
			canaries++
		}
		copies += counts[c]
	}
	return canaries, copies, size
}

// TestMemory looks for secrets in the memory of a sidecar that was given them, has
// served them and deleted them. What Go has freed it does not wipe, so the numbers are
// reported; what is promised is that nothing keeps secrets in clear: that of many
// secrets that were served once, most are gone after other traffic.
func TestMemory(t *testing.T) {
	t.Parallel()
	s := binary.Serve(t)
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", s.PID()))
	if os.Getuid() != 0 {
		if !errors.Is(err, os.ErrPermission) {
			t.Errorf("another process of the same user can read the memory: %v", err)
		}
		t.Log("the memory cannot be read without root, which is what is promised; what is in it was not looked at")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	memory.Close()
	const n = 60
	c, list := s.Admin(), canaries(t, n)
	at := func(i int) string { return slot("salesforce", "staging") + fmt.Sprint("&name=n", i) }
	for i, secret := range list {
		c.Put(at(i), value(secret)).Wants(http.StatusCreated)
	}
	for i := range list {
		c.Get(resolve("salesforce", "staging") + fmt.Sprint("&name=n", i)).Wants(http.StatusOK)
	}
	report := func(when string) int {
		found, copies, size := remembered(t, s, list)
		t.Logf("%s: %d of %d secrets, %d copies, in %d MiB", when, found, n, copies, size>>20)
		return found
	}
	if report("after each was set and served once") == 0 {
		t.Fatal("no secret is found where some must be: the test looks in the wrong place")
	}
	for i := range list {
		c.Delete(at(i)).Wants(http.StatusOK)
	}
	report("after they were deleted")
	for i := range 400 {
		c.Put(slot("slack", "staging"), value(fmt.Sprintf("other-%050d", i)))
		c.Get(resolve("slack", "staging")).Wants(http.StatusOK)
	}
	if left := report("after 800 other requests"); left > n/2 {
		t.Errorf("%d of %d secrets are still in memory: something keeps them", left, n)
	}
	keys := 0
	image(t, s.PID(), func(chunk []byte) { keys += bytes.Count(chunk, []byte("AGE-SECRET-KEY-1")) })
	t.Logf("age identities in clear, which the process needs: %d copies", keys)
	inTheOpen(t, s, append(list, s.AdminKey))
}

// inTheOpen fails the test when what every user can see, or what others inherit, has a
// secret; and when the memory could be swapped out although that can be had.
func inTheOpen(t *testing.T, s *sidecar.Sidecar, secrets []string) {
	t.Helper()
	for _, name := range []string{"cmdline", "environ", "comm"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", s.PID(), name))
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range append(secrets, "AGE-SECRET-KEY") {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("a secret is in /proc/PID/%s", name)
			}
		}
	}
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", s.PID()))
	if err != nil {
		t.Fatal(err)
	}
	defer status.Close()
	lines := bufio.NewScanner(status)
	for lines.Scan() {
		if kib, ok := strings.CutPrefix(lines.Text(), "VmLck:"); ok && strings.TrimSpace(kib) == "0 kB" && !strings.Contains(s.Log(), "memory is not locked") {
			t.Error("the memory is not locked, and nothing says so")
		}
	}
}
