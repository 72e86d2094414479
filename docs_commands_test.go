package adit_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Every command in the documents exists: adit's subcommands and flags, and the targets of make.
func TestDocumentedCommands(t *testing.T) {
	c := newCommands(t)
	found := 0
	for _, file := range documents(t) {
		for _, code := range codeOf(read(t, file)) {
			n, faults := c.check(code)
			found += n
			for _, fault := range faults {
				t.Errorf("%s: %s", file, fault)
			}
		}
	}
	if found < 100 {
		t.Errorf("found %d commands; the search for them is broken", found)
	}
}

// The check of commands finds what it is for.
func TestCommandCheck(t *testing.T) {
	c := newCommands(t)
	for _, test := range []struct {
		text   string
		faults int
	}{
		{"```sh\nadit client -L 1:2:3 --ca ca.pem wss://gw && adit pin gw\n```", 0},
		{"`adit client --config FILE`, `make test`, `adit COMMAND`, `--pin`, `systemctl restart --no-block`", 0},
		{"```sh\nadit client --cacert ca.pem wss://gw\n```", 1},
		{"```sh\nadit serve\n```", 1},
		{"```sh\nssh -o ProxyCommand='adit client --tokenfile token -W [%h]:%p wss://gw' host\n```", 1},
		{"```sh\nadit client --pin \"$(adit pinn cert.pem)\" wss://gw\n```", 1},
		{"```sh\nsudo ./adit server \\\n    --quickly # --comment\n```", 1},
		{"```console\n$ adit check --nosuch\n✗ --output --of --it\n```", 1},
		{"`adit status --watchdog`", 1},
		{"`--nosuch`", 1},
		{"`make nosuch`", 1},
		{"```sh\nmake dist DISTDIR=/tmp/again nosuch\n```", 1},
	} {
		faults := 0
		for _, code := range codeOf(test.text) {
			_, f := c.check(code)
			faults += len(f)
		}
		if faults != test.faults {
			t.Errorf("%q: %d faults, want %d", test.text, faults, test.faults)
		}
	}
}

// commands is what may be typed: adit's subcommands with their flags, and the Makefile's targets.
type commands struct {
	flags   map[string][]string // by subcommand; "" for adit itself
	targets []string
}

// newCommands builds the program and asks it as a shell that completes a command line does.
func newCommands(t *testing.T) *commands {
	t.Helper()
	program := filepath.Join(t.TempDir(), "adit")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	if out, err := exec.Command("go", "build", "-o", program, "./cmd/adit").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	complete := func(args ...string) []string {
		out, err := exec.Command(program, append([]string{"__complete"}, args...)...).Output()
		if err != nil {
			t.Fatalf("adit __complete %q: %v", args, err)
		}
		var words []string
		for line := range strings.Lines(string(out)) {
			if word, _, _ := strings.Cut(strings.TrimSpace(line), "\t"); word != "" && word[0] != ':' {
				words = append(words, word)
			}
		}
		return words
	}
	c := &commands{flags: map[string][]string{"": complete("-")}}
	for _, subcommand := range complete("") {
		c.flags[subcommand] = complete(subcommand, "-")
	}
	if len(c.flags) < 10 || len(c.flags["client"]) < 30 {
		t.Fatalf("the program completes only %v", c.flags)
	}
	for _, m := range regexp.MustCompile(`(?m)^([a-z0-9]+):`).FindAllStringSubmatch(read(t, "Makefile"), -1) {
		c.targets = append(c.targets, m[1])
	}
	return c
}

// check returns how many commands of adit and make a piece of code has, and what is wrong with them.
func (c *commands) check(code string) (found int, faults []string) {
	for _, command := range shellCommands(code) {
		for i, word := range command {
			args := command[i+1:]
			switch {
			case word == "./cmd/adit" || filepath.Base(word) == "adit" && len(args) > 0 && isSubcommand(args[0]):
				found++
				faults = append(faults, c.checkAdit(args)...)
			case word == "make" && (i == 0 || command[i-1] == "sudo"):
				found++
				for _, arg := range args {
					if !strings.ContainsAny(arg, "=-…") && !slices.Contains(c.targets, arg) {
						faults = append(faults, fmt.Sprintf("the Makefile has no target %s", arg))
					}
				}
			case i == 0 && strings.HasPrefix(word, "--"):
				found++
				if !c.isFlagOfAny(word) {
					faults = append(faults, fmt.Sprintf("no command of adit has the flag %s", word))
				}
			}
		}
	}
	return found, faults
}

func (c *commands) checkAdit(args []string) (faults []string) {
	subcommand := ""
	if len(args) > 0 && isSubcommand(args[0]) {
		subcommand = args[0]
	}
	flags, ok := c.flags[subcommand]
	if !ok {
		return []string{fmt.Sprintf("adit has no command %s", subcommand)}
	}
	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		if len(name) > 1 && name[0] == '-' && !slices.Contains(flags, name) {
			faults = append(faults, fmt.Sprintf("adit %s has no flag %s", subcommand, name))
		}
	}
	return faults
}

func (c *commands) isFlagOfAny(arg string) bool {
	name, _, _ := strings.Cut(arg, "=")
	for _, flags := range c.flags {
		if slices.Contains(flags, name) {
			return true
		}
	}
	return false
}

// isSubcommand reports whether a word looks like the name of a subcommand, not a placeholder or flag.
func isSubcommand(word string) bool { return regexp.MustCompile(`^[a-z]+$`).MatchString(word) }

var (
	fence  = regexp.MustCompile("(?ms)^ *```([a-z]*)\n(.*?)^ *```")
	inline = regexp.MustCompile("`([^`]+)`")
)

// codeOf returns the code of a Markdown text that may be commands: fenced blocks of shell, from console
// sessions the lines that are typed, the commands of systemd units, and inline code.
func codeOf(text string) []string {
	var code []string
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		switch m[1] {
		case "sh", "bash", "ini":
			code = append(code, m[2])
		case "console":
			for line := range strings.Lines(m[2]) {
				if typed, ok := strings.CutPrefix(line, "$ "); ok {
					code = append(code, typed)
				}
			}
		}
	}
	for _, m := range inline.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		code = append(code, strings.ReplaceAll(m[1], "\n", " "))
	}
	return code
}

// shellCommands cuts a shell script into commands, and each into words. What is in quotes is a word,
// and, where it has blanks, a script of its own, too: ProxyCommand='adit client …', "$(adit pin FILE)".
func shellCommands(script string) [][]string {
	var list [][]string
	var command []string
	var word strings.Builder
	endWord := func() {
		if word.Len() > 0 {
			command = append(command, word.String())
			word.Reset()
		}
	}
	endCommand := func() {
		endWord()
		if len(command) > 0 {
			list = append(list, command)
			command = nil
		}
	}
	script = strings.ReplaceAll(script, "\\\n", " ")
	for i := 0; i < len(script); i++ {
		switch c := script[i]; {
		case c == '\'' || c == '"':
			text, _, _ := strings.Cut(script[i+1:], string(c))
			i += len(text) + 1
			word.WriteString(text)
			if strings.Contains(text, " ") {
				list = append(list, shellCommands(text)...)
			}
		case c == '#' && word.Len() == 0:
			comment, _, _ := strings.Cut(script[i:], "\n")
			i += len(comment) - 1
		case strings.IndexByte(" \t", c) >= 0:
			endWord()
		case strings.IndexByte("\n;&|()", c) >= 0:
			endCommand()
		default:
			word.WriteByte(c)
		}
	}
	endCommand()
	return list
}
