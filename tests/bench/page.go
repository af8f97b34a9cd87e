package main

import (
	_ "embed"
	"html/template"
	"io"

	"baton/tests/bench/internal/chart"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"svg":      func(c chart.Chart) template.HTML { return template.HTML(c.SVG()) }, // which has escaped what it was given
	"short":    short,
	"text":     number.text,
	"checked":  func(c check) string { return c.text() },
	"limit":    check.limit,
	"duration": duration,
	"others":   machine.others,
}).Parse(pageText))

// writePage writes a page that stands alone.
func (r *results) writePage(w io.Writer) error {
	return page.Execute(w, struct {
		*results
		Summary string
	}{r, r.summary()})
}
