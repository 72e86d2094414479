//go:build linux

package main

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// Sizes in a chart, in SVG units.
const (
	panelWidth  = 430
	labelWidth  = 140
	valueWidth  = 60
	barHeight   = 14
	rowHeight   = 20
	titleHeight = 34
	panelGap    = 20
)

// A bar is one row of a panel.
type bar struct {
	name string
	figure
	kind string // CSS class
}

// chart draws an SVG with a panel of bars for each column of the group that wants one, two panels in a
// row, "" if there is nothing to draw. The background is transparent, and the text color follows the
// page's color scheme.
func (r *record) chart(g group) string {
	type panel struct {
		title, hint string
		bars        []bar
	}
	var panels []panel
	for _, w := range g.workloads {
		for _, c := range w.columns {
			if !c.chart {
				continue
			}
			p := panel{title: capital(w.title) + ": " + c.title, hint: hint(c.sense)}
			for _, peer := range r.Peers {
				if f := r.figure(w.name, peer.Name, c.key); f.known() && peer.Name != nameDirect {
					p.bars = append(p.bars, bar{peer.Name, f, kindOf(peer.Name)})
				}
			}
			if len(p.bars) > 0 {
				panels = append(panels, p)
			}
		}
	}
	if len(panels) == 0 {
		return ""
	}
	var (
		body strings.Builder
		y    = 0
	)
	for i := 0; i < len(panels); i += 2 {
		rows := 0
		for j, p := range panels[i:min(i+2, len(panels))] {
			drawPanel(&body, j*(panelWidth+panelGap), y, p.title, p.hint, p.bars)
			rows = max(rows, len(p.bars))
		}
		y += titleHeight + rows*rowHeight + panelGap
	}
	width := panelWidth*2 + panelGap
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">
<title>%s</title>
<style>
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.title { font-weight: 600; }
.hint { font-weight: 400; font-size: 11px; }
.ours { fill: #2f81f7; } .variant { fill: #79a8e8; } .other { fill: #8b949e; }
.spread { stroke: #1f2328; stroke-opacity: 0.7; }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3; } .spread { stroke: #e6edf3; } }
</style>
%s</svg>
`, width, y, width, y, escape(g.title), body.String())
}

// drawPanel draws bars to one scale from 0, each with a line from its least to its most.
func drawPanel(b *strings.Builder, x, y int, title, hint string, bars []bar) {
	fmt.Fprintf(b, `<text class="title" x="%d" y="%d">%s<tspan class="hint" dx="6">%s</tspan></text>`+"\n", x, y+20, escape(title), hint)
	most := 0.0
	for _, bar := range bars {
		most = max(most, bar.max)
	}
	if most == 0 {
		most = 1
	}
	scale := float64(panelWidth-labelWidth-valueWidth) / most
	left := x + labelWidth
	for i, bar := range bars {
		top := y + titleHeight + i*rowHeight
		middle := top + barHeight/2
		fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text>`, left-6, middle+4, escape(bar.name))
		fmt.Fprintf(b, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/>`, bar.kind, left, top, max(bar.median*scale, 1), barHeight)
		fmt.Fprintf(b, `<path class="spread" d="M%.1f %dH%.1f"/>`, float64(left)+bar.min*scale, middle, float64(left)+bar.max*scale)
		fmt.Fprintf(b, `<text x="%.1f" y="%d">%s</text>`+"\n", float64(left)+bar.max*scale+6, middle+4, short(bar.median))
	}
}

func kindOf(peer string) string {
	switch peer {
	case nameAdit, nameAditRoute:
		return "ours"
	case nameNoResume:
		return "variant"
	}
	return "other"
}

func hint(s sense) string {
	switch s {
	case moreIsBetter:
		return "more is better"
	case lessIsBetter:
		return "less is better"
	}
	return ""
}

func escape(s string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(s)) // a builder's writes do not fail
	return b.String()
}
