// Package config turns a TOML file, the environment and command line flags
// into checked values, in that order of precedence: a flag wins over the
// environment, the environment over the file, the file over the default. A
// higher layer replaces a list, it does not add to it.
//
// One table for each file, in server_table.go and client_table.go, states
// everything about a setting: key, flag, variable, default, bounds, the field
// that stores the value, and the words for the help and the reference. A new
// setting is one entry there, and that field. The flags, the manual pages,
// docs/reference and the table of docs/gateway.md follow from the entry: go
// generate writes the documents, and a test compares them.
//
//	*_table.go                         the settings
//	setting.go, value.go, element.go   what an entry of a table consists of
//	load.go, file.go, toml.go          defaults, file, environment, flags: text to values
//	*_check.go                         faults between values
//	address.go, url.go, text.go, …     parsers of one value
//
// Nothing stops at the first fault: loading reports every fault that it finds,
// each with the place that it came from (file and line, flag, or variable) and
// a hint with a correct example. Files and certificates that values name are
// not opened here; that is the caller's.
package config

//go:generate go test -run TestGenerated|TestMessagesOfTheReader -update .
