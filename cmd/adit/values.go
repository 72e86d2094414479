package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"adit/internal/config"
)

// durationFlag adds a flag whose value is a duration, or a number of seconds.
func durationFlag(flags *pflag.FlagSet, name string, value time.Duration, usage string) *time.Duration {
	d := value
	flags.Var((*durationValue)(&d), name, usage)
	return &d
}

type durationValue time.Duration

func (d *durationValue) String() string { return time.Duration(*d).String() }
func (d *durationValue) Type() string   { return "duration" }
func (d *durationValue) Set(s string) error {
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		s += "s"
	}
	v, err := time.ParseDuration(s)
	*d = durationValue(v)
	return err
}

// sizeFlag adds a flag whose value is a size between 1 MiB and 1 TiB. The value is
// in MiB.
func sizeFlag(flags *pflag.FlagSet, name string, value int, usage string) *int {
	flags.Var((*sizeValue)(&value), name, usage)
	return &value
}

type sizeValue int

func (v *sizeValue) String() string { return fmt.Sprintf("%dMiB", int(*v)) }
func (v *sizeValue) Type() string   { return "size" }
func (v *sizeValue) Set(s string) error {
	mib, err := config.ParseMebibytes(s, 1, 1<<20)
	*v = sizeValue(mib)
	return err
}
