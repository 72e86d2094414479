package config

import "time"

// Client is the configuration of adit client and adit check, checked.
type Client struct {
	File      string   // the file that was read; "" for none
	Servers   []string // wss or ws URLs, in order of preference
	TokenFile string   // "" for none
	Token     Secret   // from ADIT_TOKEN; never together with TokenFile
	User      string   // not empty: the secret is this user's password
	Forwards  []Forward
	Stdio     Address // -W; zero for none. Forwards is then empty

	Proxy     string // URL, "none", or "" for what the environment says
	ConnectTo string // HOST:PORT or unix:PATH to dial; "" for the URL's
	Host      string // Host header; "" for the URL's
	Headers   []Header

	ServerOrder      string        // "given" or "random"
	PreferInterval   time.Duration // how often an earlier server is probed
	PingInterval     time.Duration
	LinkWait         time.Duration // how long a new connection waits while the link is down
	ResumeTimeout    time.Duration // how long streams survive a lost link; 0: not at all
	MaxConnectionAge time.Duration // 0: unlimited
	ExitOnRefusal    bool
	TLS              ClientTLS
	Log              Log
	Admin            Admin
	Metrics          Metrics

	origins map[string]string
}

// ClientTLS is how the server is verified, and how the client identifies itself.
type ClientTLS struct {
	CA                 string   // PEM file; "" is the system's
	Pins               []string // sha256:BASE64; not checked: package certs does
	Cert, Key          string   // PEM files; both or neither
	ServerName         string   // "" is the URL's host
	InsecureSkipVerify bool
	NoSmallHello       bool // see dial.Options
}

// LoadClient reads and checks the configuration of adit client. The Client is
// never nil; with faults it holds what could be read. needWork makes it a
// fault that there is nothing to forward.
func LoadClient(src Sources, needWork bool) (*Client, Faults) {
	c := &Client{}
	l := newLoader()
	c.File = l.load(c.schema(), src)
	c.origins = l.origins
	c.check(l, needWork)
	return c, l.finish()
}

// Origin says where the value of a key came from, as Server.Origin does.
func (c *Client) Origin(key string) string { return originOf(c.origins, key) }
