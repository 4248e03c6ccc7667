// Command readers reads one thing of a sidecar over and over, and measures how long that
// takes: in a process of its own, so that what a test has to do besides is not measured.
// It gets an [order] as JSON on its standard input, and prints a [report].
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// order says what is to be read.
type order struct {
	URL, Key string
	Wants    string // is part of each answer
	Readers  int
	For      time.Duration
}

// report says how long reads took.
type report struct {
	Reads              int
	Median, P99, Worst time.Duration
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var o order
	if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
		return err
	}
	r, err := o.carryOut()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

func (o order) carryOut() (report, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: o.Readers}, Timeout: time.Minute}
	took, errs := make([][]time.Duration, o.Readers), make([]error, o.Readers)
	var readers sync.WaitGroup
	for i := range o.Readers {
		readers.Go(func() { took[i], errs[i] = o.read(client) })
	}
	readers.Wait()
	all := slices.Concat(took...)
	slices.Sort(all)
	if err := cmp.Or(errors.Join(errs...), enough(all)); err != nil {
		return report{}, err
	}
	return report{len(all), all[len(all)/2], all[len(all)*99/100], all[len(all)-1]}, nil
}

func enough(all []time.Duration) error {
	if len(all) < 100 {
		return fmt.Errorf("%d reads have no 99th percentile: read for longer", len(all))
	}
	return nil
}

// read reads one thing after the other.
func (o order) read(client *http.Client) (took []time.Duration, err error) {
	for end := time.Now().Add(o.For); time.Now().Before(end); {
		began := time.Now()
		if err := o.once(client); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

func (o order) once(client *http.Client) error {
	req, err := http.NewRequest(http.MethodGet, o.URL, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+o.Key)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), o.Wants) {
		return fmt.Errorf("a read was refused: %s", resp.Status)
	}
	return nil
}
