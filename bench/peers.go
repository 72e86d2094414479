//go:build linux

package main

// twoEach is the limit of idle connections for programs that need two descriptors or a thread for
// each on one side.
const twoEach = 9000

// allPeers returns every peer of the report. adit is the path of its binary.
func allPeers(adit string) []*peer {
	return []*peer{
		{
			name: nameDirect, about: "the load generator alone over the same path",
			start: func(s *stage) (string, error) { return s.across(s.client, s.target.addr) },
		},
		aditPeer(nameAdit, "all streams in one WebSocket over TLS; a user with a token and a policy, metrics", adit, ""),
		aditPeer(nameNoResume, "the same with `resume-timeout = \"0s\"`", adit, `resume-timeout = "0s"`),
		{
			name: nameStunnel, about: "TLS only, a TLS connection for every stream",
			programs: []string{"stunnel"}, version: []string{"stunnel", "-version"}, most: twoEach, start: startStunnel,
		},
		{
			name: nameSSH, about: "`ssh -L` with aes128-gcm@openssh.com",
			programs: []string{"sshd", "ssh", "ssh-keygen"}, version: []string{"ssh", "-V"}, most: twoEach, start: startSSH,
		},
		{
			name: nameChisel, about: "SSH over one WebSocket over TLS",
			programs: []string{"chisel"}, version: []string{"chisel", "--version"}, start: startChisel,
		},
		{
			name: nameWstunnel, about: "a WebSocket over TLS for every stream",
			programs: []string{"wstunnel"}, version: []string{"wstunnel", "--version"}, most: twoEach, start: startWstunnel,
		},
		{
			name: nameGost, about: "relay over mwss, all streams in one WebSocket over TLS",
			programs: []string{"gost"}, version: []string{"gost", "-V"}, start: startGost,
		},
		{
			name: nameFrp, about: "a TCP proxy over TLS with tcpMux; its server runs on the client's host",
			programs: []string{"frps", "frpc"}, version: []string{"frps", "--version"}, start: startFrp,
		},
		{
			name: nameAditRoute, about: "a route without users", adit: true, route: true,
			programs: []string{adit}, version: []string{adit, "version"},
			start: func(s *stage) (string, error) { return startAditRoute(s, adit) },
		},
		{
			name: nameLighttpd, about: "mod_wstunnel, binary frames", route: true,
			programs: []string{"lighttpd"}, version: []string{"lighttpd", "-v"}, start: startLighttpd,
		},
		{
			name: nameWebsockify, about: "a process for every connection", route: true,
			programs: []string{"websockify"}, version: []string{"dpkg-query", "-W", "websockify"}, start: startWebsockify,
		},
	}
}
