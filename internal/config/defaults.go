package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// systemDirectory has the configuration files of the machine's services.
const systemDirectory = "/etc/adit"

// DefaultFiles returns where the configuration file of a command, "server" or
// "client", may be when nothing names it: in the user's own configuration
// directory, except for root, and then in /etc/adit. lookup is os.LookupEnv.
func DefaultFiles(command string, lookup func(string) (string, bool)) []string {
	variable := func(name string) string { v, _ := lookup(name); return v }
	var own string
	switch {
	case filepath.IsAbs(variable("XDG_CONFIG_HOME")):
		own = variable("XDG_CONFIG_HOME")
	case runtime.GOOS == "windows":
		own = variable("AppData")
	case os.Geteuid() != 0 && variable("HOME") != "":
		own = filepath.Join(variable("HOME"), ".config")
	}
	var files []string
	if own != "" {
		files = append(files, filepath.Join(own, "adit", command+".toml"))
	}
	if runtime.GOOS != "windows" {
		files = append(files, filepath.Join(systemDirectory, command+".toml"))
	}
	return files
}

// defaultFile returns the first of the files that can be opened, or "". locked says
// why one before it that exists cannot, or is nil.
func defaultFile(files []string) (file string, locked error) {
	for _, name := range files {
		f, err := os.Open(name)
		switch {
		case err == nil:
			f.Close()
			return name, locked
		case !errors.Is(err, fs.ErrNotExist):
			locked = err
		}
	}
	return "", locked
}
