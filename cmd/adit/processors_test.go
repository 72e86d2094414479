package main

import "testing"

func TestFitting(t *testing.T) {
	f := fitting{most: 6, now: 1}
	steps := []struct {
		busy  float64
		looks int
		want  int
	}{
		{0, 100, 1},
		{0.9, 100, 1},
		{1, 1, 2},
		{1.8, 100, 2},
		{2, 1, 4},
		{4, 1, 6},
		{6, 10, 6},
		{2.5, 100, 6},
		{1, shrinkAfter - 1, 6},
		{1, 1, 3},
		{0.1, shrinkAfter - 1, 3},
		{2, 1, 3}, // begins anew
		{0.1, shrinkAfter, 2},
		{0.1, shrinkAfter, 1},
		{0, 100, 1},
	}
	for i, s := range steps {
		got := 0
		for range s.looks {
			got = f.next(s.busy)
		}
		if got != s.want {
			t.Fatalf("step %d: %d processors, want %d", i, got, s.want)
		}
	}
}
