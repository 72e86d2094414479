package demo

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"time"

	"adit/internal/units"
)

// proveTunnel sends data both ways through the tunnel and compares digests.
func (d *demo) proveTunnel() error {
	h := sha256.New()
	if _, err := io.CopyN(h, noise(), d.Bytes); err != nil {
		return err
	}
	want := hex.EncodeToString(h.Sum(nil))

	start := time.Now()
	got, err := d.upload()
	if err := d.judge("up", start, got, want, err); err != nil {
		return err
	}
	start = time.Now()
	got, err = d.download()
	return d.judge("down", start, got, want, err)
}

// judge prints how a transfer went.
func (d *demo) judge(way string, start time.Time, got, want string, err error) error {
	elapsed := time.Since(start)
	if err == nil && got != want {
		err = fmt.Errorf("the digest is %s, not %s", got, want)
	}
	if err != nil {
		fmt.Fprintf(d.Out, "✗ %-5s %v\n", way, err)
		return fmt.Errorf("transfer %s: %w", way, err)
	}
	fmt.Fprintf(d.Out, "✓ %-5s %s in %s, %s/s, sha256 %s…\n", way, units.Binary(d.Bytes), units.Short(elapsed), units.Binary(int64(float64(d.Bytes)/elapsed.Seconds())), got[:16])
	return nil
}

func (d *demo) upload() (digest string, err error) {
	r, err := http.NewRequestWithContext(d.ctx, http.MethodPost, "http://"+d.webLocal+"/digest", io.LimitReader(noise(), d.Bytes))
	if err != nil {
		return "", err
	}
	r.ContentLength = d.Bytes
	var answer []byte
	err = d.do(r, func(body io.Reader) (err error) {
		answer, err = io.ReadAll(io.LimitReader(body, 1024))
		return err
	})
	return string(answer), err
}

func (d *demo) download() (digest string, err error) {
	r, err := http.NewRequestWithContext(d.ctx, http.MethodGet, fmt.Sprintf("http://%s/noise/%d", d.webLocal, d.Bytes), nil)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	err = d.do(r, func(body io.Reader) error {
		_, err := io.CopyBuffer(h, body, make([]byte, 64<<10))
		return err
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

// do makes a request on a new connection, never through a proxy.
func (d *demo) do(r *http.Request, read func(io.Reader) error) error {
	t := &http.Transport{DisableKeepAlives: true}
	defer t.CloseIdleConnections()
	resp, err := t.RoundTrip(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the backend answers %s", resp.Status)
	}
	return read(resp.Body)
}
