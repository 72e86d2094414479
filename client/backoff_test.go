package client_test

import (
	"regexp"
	"slices"
	"testing"
	"time"

	"adit/client"
	"adit/tunnel/dial"
)

var retryIn = regexp.MustCompile(`retry=(\S+)`)

// pauses waits for n pauses in the client's log and returns all there are.
func pauses(t *testing.T, r *running, n int) []time.Duration {
	t.Helper()
	var list []time.Duration
	for _, line := range r.log.Wait(t, n, "retry=") {
		d, err := time.ParseDuration(retryIn.FindStringSubmatch(line)[1])
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, d)
	}
	return list
}

func TestBackoff(t *testing.T) {
	cfg := client.Config{Servers: []string{unreachableURL(t)}, Dial: &dial.Options{}, BackoffMin: 20 * time.Millisecond, BackoffMax: 160 * time.Millisecond}
	r := run(t, cfg)
	for i, got := range pauses(t, r, 6) {
		want := min(cfg.BackoffMin<<i, cfg.BackoffMax)
		if got < want/2-time.Millisecond || got > want*3/2+time.Millisecond {
			t.Errorf("pause %d is %v, want %v give or take half", i, got, want)
		}
	}
	if err := func() error {
		select {
		case err := <-r.ended:
			return err
		default:
			return nil
		}
	}(); err != nil {
		t.Error(err)
	}
}

func TestJitter(t *testing.T) {
	const d = 100 * time.Millisecond
	var all []time.Duration
	for range 1000 {
		all = append(all, client.Jitter(d))
	}
	slices.Sort(all)
	if all[0] < d/2 || all[len(all)-1] > d || all[0] > d*5/8 || all[len(all)-1] < d*7/8 {
		t.Errorf("from %v to %v", all[0], all[len(all)-1])
	}
}
