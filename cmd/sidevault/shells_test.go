package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// completions are how each shell is asked, without a person, what it would complete.
func completions() map[string][]string {
	return map[string][]string{
		"bash": {"--norc", "--noprofile", "-euc", `
			if [ -r /usr/share/bash-completion/bash_completion ]; then
				set +eu; . /usr/share/bash-completion/bash_completion; set -eu
			else
				_get_comp_words_by_ref() { cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=("${COMP_WORDS[@]}") cword=$COMP_CWORD; }
			fi
			sidevault completion bash > script && . ./script && set +eu
			complete -p sidevault > /dev/null || exit 1
			COMP_WORDS=($WORDS) COMP_LINE=$WORDS COMP_TYPE=9 COMP_KEY=9
			COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_POINT=${#COMP_LINE}
			__start_sidevault
			printf '%s\n' "${COMPREPLY[@]}"`},
		"fish": {"--no-config", "-c", `sidevault completion fish > script; and source script; and complete -C "$WORDS"`},
		// Nothing completes without a line editor; that it is loaded and bound is seen.
		"zsh": {"-f", "-ec", `autoload -U compinit; compinit -u -D
			sidevault completion zsh > script; source ./script
			(( $+functions[_sidevault] )) && [[ ${_comps[sidevault]} == _sidevault ]] && sidevault __complete ${=WORDS#sidevault } 2> /dev/null`},
	}
}

// The completion scripts do in the shells what they are for.
func TestCompletionInShells(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	fillVault(t, p)
	dir := t.TempDir()
	if err := os.Symlink(self(t), filepath.Join(dir, "sidevault")); err != nil {
		t.Fatal(err)
	}
	for shell, args := range completions() {
		program, err := exec.LookPath(shell)
		if err != nil && shell != "bash" {
			t.Logf("no %s here", shell)
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		for line, word := range map[string]string{
			"sidevault get salesf":                            "salesforce",
			"sidevault get salesforce -e prod":                "production",
			"sidevault diff stag":                             "staging",
			"sidevault copy slack salesf":                     "salesforce",
			"sidevault copy slack --from stag":                "staging",
			"sidevault copy slack --from staging --to produc": "production",
			"sidevault list --output ya":                      "yaml",
			"sidevault doct":                                  "doctor",
		} {
			eventually(t, shell+" completes "+line, func() bool {
				cmd := exec.CommandContext(t.Context(), program, args...)
				cmd.Dir = t.TempDir()
				cmd.Env = []string{asProgram + "=1", "PATH=" + dir + ":" + os.Getenv("PATH"), "HOME=" + dir, "GORACE=atexit_sleep_ms=0",
					addrVariable + "=" + p.addr, tokenFileVariable + "=" + p.keyFile, "WORDS=" + line}
				text, err := cmd.CombinedOutput()
				t.Logf("%s: %s: %v\n%s", shell, line, err, text)
				return err == nil && strings.Contains("\n"+string(text), "\n"+word)
			})
		}
	}
}
