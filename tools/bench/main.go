// Command bench measures a sidevault beside what it is compared with, in one run on
// one machine, and prints a table with the goal of each row.
//
//	make bench                          every row, about ten minutes at most
//	make bench BENCH='resolve/tcp'      the rows whose names match
//	go -C tools/bench run . -short      every row, in seconds, to see that it works
//	go -C tools/bench run . -profile D  profiles of the warm resolve and of set, into D
//
// It builds the program as it is released and starts it on free ports with vaults in
// a temporary directory. What it is compared with runs in turn with it (A B A B): a
// bare Gin server in a process of its own, or age and bbolt by themselves. It asserts
// nothing: the exit code says whether the measuring worked, never how fast anything
// was. Figures of different runs are not comparable.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"strings"
	"time"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == referenceWord {
		exit(serveReference(os.Args[2], os.Stdin, os.Stdout))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run is the program.
func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	selected := flags.String("run", ".", "measure the rows whose names match the `regexp`")
	brief := flags.Bool("short", false, "measure little, to see that it works")
	program := flags.String("sidevault", "", "measure this `program` instead of one built from the source")
	profiles := flags.String("profile", "", "write profiles of resolve and set (those that -run matches) into the `directory`, and measure nothing")
	if err := flags.Parse(args); err != nil {
		return err
	}
	names, err := regexp.Compile(*selected)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	dir, err := os.MkdirTemp("", "sidevault-bench-")
	if err != nil {
		return err
	}
	b := &bench{size: full(), dir: dir, program: *program, stores: map[int]*store{}}
	defer func() { err = errors.Join(err, b.close()) }()
	if *brief {
		b.size = short()
	}
	if b.program == "" {
		if b.program, err = build(ctx, dir); err != nil {
			return err
		}
	}
	if *profiles != "" {
		return b.profile(ctx, names, *profiles, out)
	}
	return b.table(ctx, names, out)
}

// table prints the rows as they are measured.
func (b *bench) table(ctx context.Context, selected *regexp.Regexp, out io.Writer) error {
	start := time.Now()
	fmt.Fprintf(out, "%s, %d processors, %s, load average before %s\n", processor(), runtime.NumCPU(), runtime.Version(), loadAverage())
	fmt.Fprintf(out, "medians of %d rounds of %s; files in %s\n\n%s", b.size.rounds, b.size.round, b.dir, header)
	if err := b.run(ctx, selected, func(o outcome) { o.print(out) }); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nload average after %s, took %s\n", loadAverage(), time.Since(start).Round(time.Second))
	return nil
}

func processor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	m := regexp.MustCompile(`model name\s*:\s*(.*)`).FindSubmatch(info)
	if m == nil {
		return runtime.GOARCH
	}
	return string(m[1])
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// moduleRoot is where the product's source is.
func moduleRoot(ctx context.Context) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", product).Output()
	if err != nil {
		return "", fmt.Errorf("find the module %s: %w", product, err)
	}
	return strings.TrimSpace(string(root)), nil
}
