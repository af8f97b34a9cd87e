// Package chart draws lines over two axes as SVG that needs nothing else: no script, no font, no other file. Its colours are those that the
// page around it gives to the classes s0, s1 and so on.
package chart

import (
	"fmt"
	"html"
	"strings"
)

// A Chart is what is to be drawn. It is part of the results that machines read, too.
type Chart struct {
	Name       string   `json:"name"` // for links
	Title      string   `json:"title"`
	Note       string   `json:"note,omitempty"`
	X          string   `json:"x"` // what the axis shows, with its unit
	Y          string   `json:"y"`
	LogX       bool     `json:"log_x,omitempty"`
	LogY       bool     `json:"log_y,omitempty"`
	Categories []string `json:"categories,omitempty"` // X is an index into these
	Series     []Series `json:"series"`
	Bands      []Band   `json:"bands,omitempty"`
}

// A Series is one line, or points if there is only one.
type Series struct {
	Name   string  `json:"name"`
	Points []Point `json:"points"`          // by ascending X
	Plain  bool    `json:"plain,omitempty"` // a line without marks, for many points
}

// A Point may have a range beside its value.
type Point struct {
	X    float64 `json:"x"`
	Y    float64 `json:"y"`
	Low  float64 `json:"low,omitempty"` // with High; both 0 = none
	High float64 `json:"high,omitempty"`
}

// A Band is a stretch of the X axis that is shaded.
type Band struct {
	From float64 `json:"from"`
	To   float64 `json:"to"`
	Name string  `json:"name"`
}

// Pixels of the whole, and of what is around the plot.
const (
	width, height            = 760, 380
	left, right, top, bottom = 64, 16, 44, 48
)

// SVG draws the chart.
func (c Chart) SVG() string {
	x, y := c.scales()
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n", width, height, html.EscapeString(c.Title))
	c.drawBands(&b, x)
	c.drawAxes(&b, x, y)
	for i, s := range c.Series {
		s.draw(&b, i, x, y)
	}
	c.drawLegend(&b)
	b.WriteString("</svg>\n")
	return b.String()
}

func (c Chart) scales() (x, y scale) {
	var xs, ys []float64
	for _, s := range c.Series {
		for _, p := range s.Points {
			xs, ys = append(xs, p.X), append(ys, p.Y)
			if p.High > 0 {
				ys = append(ys, p.Low, p.High)
			}
		}
	}
	x = newScale(xs, c.LogX, left, width-right)
	if n := len(c.Categories); n > 0 {
		x = scale{min: -0.5, max: float64(n) - 0.5, from: left, to: width - right}
	}
	return x, newScale(ys, c.LogY, height-bottom, top)
}

func (c Chart) drawBands(b *strings.Builder, x scale) {
	for _, band := range c.Bands {
		from, to := x.at(band.From), x.at(band.To)
		fmt.Fprintf(b, `<rect class="band" x="%.1f" y="%d" width="%.1f" height="%d"><title>%s</title></rect>`+"\n",
			from, top, max(to-from, 1), height-top-bottom, html.EscapeString(band.Name))
		fmt.Fprintf(b, `<text class="note" x="%.1f" y="%d">%s</text>`+"\n", to+4, top+12, html.EscapeString(band.Name))
	}
}

func (c Chart) drawAxes(b *strings.Builder, x, y scale) {
	for _, v := range y.ticks() {
		at := y.at(v)
		fmt.Fprintf(b, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text class="tick" text-anchor="end" x="%d" y="%.1f">%s</text>`+"\n",
			left, width-right, at, at, left-8, at+4, label(v))
	}
	if c.Categories != nil {
		for i, name := range c.Categories {
			drawTick(b, x.at(float64(i)), name)
		}
	} else {
		for _, v := range x.ticks() {
			drawTick(b, x.at(v), label(v))
		}
	}
	fmt.Fprintf(b, `<text class="axis" text-anchor="middle" x="%d" y="%d">%s</text>`+"\n", (left+width-right)/2, height-8, html.EscapeString(c.X))
	fmt.Fprintf(b, `<text class="axis" text-anchor="middle" transform="translate(14 %d) rotate(-90)">%s</text>`+"\n",
		(top+height-bottom)/2, html.EscapeString(c.Y))
}

func drawTick(b *strings.Builder, at float64, name string) {
	fmt.Fprintf(b, `<line class="grid" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/><text class="tick" text-anchor="middle" x="%.1f" y="%d">%s</text>`+"\n",
		at, at, height-bottom, height-bottom+4, at, height-bottom+18, html.EscapeString(name))
}

func (s Series) draw(b *strings.Builder, i int, x, y scale) {
	fmt.Fprintf(b, `<g class="s%d">`, i)
	var path []string
	for _, p := range s.Points {
		path = append(path, fmt.Sprintf("%.1f,%.1f", x.at(p.X), y.at(p.Y)))
	}
	if len(path) > 1 {
		fmt.Fprintf(b, `<polyline points="%s"/>`, strings.Join(path, " "))
	}
	for _, p := range s.Points {
		if p.High > 0 {
			fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, x.at(p.X), x.at(p.X), y.at(p.Low), y.at(p.High))
		}
		if !s.Plain {
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3.5"><title>%s: %.4g</title></circle>`, x.at(p.X), y.at(p.Y), html.EscapeString(s.Name), p.Y)
		}
	}
	b.WriteString("</g>\n")
}

// drawLegend names the lines above the plot. A character is taken to be 7 pixels wide.
func (c Chart) drawLegend(b *strings.Builder) {
	at := left
	for i, s := range c.Series {
		fmt.Fprintf(b, `<g class="s%d"><line x1="%d" x2="%d" y1="20" y2="20"/></g><text class="legend" x="%d" y="24">%s</text>`+"\n",
			i, at, at+18, at+24, html.EscapeString(s.Name))
		at += 24 + 7*len([]rune(s.Name)) + 18
	}
}
