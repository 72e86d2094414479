package server

import (
	"net/http/httptest"
	"testing"
)

// Firefox behind an HTTP proxy sends an extended CONNECT without Origin, although
// a page asks, which may be that of any site.
func TestOriginHidden(t *testing.T) {
	const firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0"
	for _, test := range []struct {
		agent, origin string
		by            means
		want          bool
	}{
		{firefox, "", byNothing, false},
		{firefox, "", byCertificate, false},
		{firefox, "", byHeader, true},
		{firefox, "", bySubprotocol, true},
		{firefox, "", byTicket, true},
		{firefox, "https://gw.test", byNothing, true},
		{firefox, "https://other.test", bySubprotocol, false},
		{"Mozilla/5.0", "", byNothing, true}, // the User-Agent of adit client
		{"websocat", "", byCertificate, true},
		{"", "", byNothing, true},
	} {
		r := httptest.NewRequest("GET", "https://gw.test/", nil)
		r.Header.Set("User-Agent", test.agent)
		if test.origin != "" {
			r.Header.Set("Origin", test.origin)
		}
		err := originList(nil).check(r, caller{means: test.by})
		if (err == nil) != test.want {
			t.Errorf("%+v: %v", test, err)
		}
	}
}
