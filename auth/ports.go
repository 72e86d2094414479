package auth

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// maxPortRanges bounds how many ranges one rule has.
const maxPortRanges = 256

type portRange struct{ from, to uint16 }

// portSet holds ranges in ascending order that neither overlap nor touch.
type portSet []portRange

func (s portSet) has(port uint16) bool {
	for _, r := range s {
		if port < r.from {
			return false
		}
		if port <= r.to {
			return true
		}
	}
	return false
}

// all reports whether the set holds every port.
func (s portSet) all() bool { return len(s) == 1 && s[0] == portRange{1, 65535} }

func (s portSet) String() string {
	var b strings.Builder
	for i, r := range s {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(int(r.from)))
		if r.to != r.from {
			b.WriteByte('-')
			b.WriteString(strconv.Itoa(int(r.to)))
		}
	}
	return b.String()
}

// parsePorts parses "*" or a comma-separated list of N and N-M. reason says
// why it failed; it is "" on success.
func parsePorts(text string) (set portSet, reason string) {
	if text == "*" {
		return portSet{{1, 65535}}, ""
	}
	if text == "" {
		return nil, "the port is missing"
	}
	for part := range strings.SplitSeq(text, ",") {
		if len(set) == maxPortRanges {
			return nil, "more than " + strconv.Itoa(maxPortRanges) + " ports or ranges"
		}
		low, high, isRange := strings.Cut(strings.TrimSpace(part), "-")
		from, ok := parsePort(low)
		if !ok {
			return nil, quote(low) + " is not a port from 1 to 65535"
		}
		to := from
		if isRange {
			if to, ok = parsePort(high); !ok {
				return nil, quote(high) + " is not a port from 1 to 65535"
			}
			if to < from {
				return nil, "the range " + quote(part) + " runs backwards"
			}
		}
		set = append(set, portRange{from, to})
	}
	slices.SortFunc(set, func(a, b portRange) int { return cmp.Compare(a.from, b.from) })
	merged := set[:1]
	for _, r := range set[1:] {
		if last := &merged[len(merged)-1]; int(r.from) <= int(last.to)+1 {
			last.to = max(last.to, r.to)
		} else {
			merged = append(merged, r)
		}
	}
	return merged, ""
}

// parsePort parses a port from 1 to 65535 of decimal digits only, without the
// signs and underscores that strconv may accept.
func parsePort(s string) (uint16, bool) {
	if !isDigits(s) || len(s) > 5 {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && n > 0
}
