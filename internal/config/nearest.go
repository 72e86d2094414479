package config

// Nearest returns the candidate closest to s, or "" when none is close enough
// for s to be a misspelling of it: at most a third of the letters of s differ,
// and at most three.
func Nearest(s string, candidates []string) string {
	best, bestDistance := "", min(len(s)/3, 3)+1
	if bestDistance < 2 {
		bestDistance = 2
	}
	for _, c := range candidates {
		if d := distance(s, c); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// didYouMean is a hint that names the candidate closest to s, or otherwise when
// none is close.
func didYouMean(s string, candidates []string, otherwise string) string {
	if m := Nearest(s, candidates); m != "" {
		return "did you mean " + m + "?"
	}
	return otherwise
}

// distance counts the insertions, deletions, substitutions and swaps of
// neighbors that turn a into b.
func distance(a, b string) int {
	before, prev := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		cur := make([]int, len(b)+1)
		cur[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			cur[j+1] = min(prev[j]+cost, prev[j+1]+1, cur[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				cur[j+1] = min(cur[j+1], before[j-1]+1)
			}
		}
		before, prev = prev, cur
	}
	return prev[len(b)]
}
