package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"baton/tests/bench/internal/chart"
	"baton/tests/bench/internal/figure"
)

// results are all that a run has to tell.
type results struct {
	Machine machine        `json:"machine"`
	Took    float64        `json:"took_s"`
	Repeat  int            `json:"repeat"`
	Rows    []*row         `json:"rows"`
	Large   *extrapolation `json:"large,omitempty"`
	Plots   []chart.Chart  `json:"plots"`
}

// write writes the table, and the files that were asked for.
func (r *results) write(stdout io.Writer, o options) error {
	var errs error
	if o.json != "" {
		errs = errors.Join(errs, writeFile(o.json, r.writeJSON))
	}
	if o.html != "" {
		errs = errors.Join(errs, writeFile(o.html, r.writePage))
	}
	return errors.Join(errs, r.writeTable(stdout))
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

func (r *results) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// writeTable writes what people read first.
func (r *results) writeTable(w io.Writer) error {
	m := r.Machine
	fmt.Fprintf(w, "%s, %d cores, %.0f GiB, %s, %s; %s\n", m.CPU, m.Cores, m.Memory, m.Kernel, m.Go, m.Started.Format("2006-01-02 15:04 MST"))
	fmt.Fprintf(w, "%s; %d repetitions, %.0f s; %s\n", m.Server, r.Repeat, r.Took, m.others())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range r.Rows {
		t.Flush()
		fmt.Fprintf(w, "\n%d  %s\n   against %s; goal %s\n", row.Number, row.Measure, row.Against, row.Goal)
		if row.Error != "" {
			fmt.Fprintf(w, "   NOT MEASURED: %s\n", row.Error)
		}
		for _, c := range row.Checks {
			fmt.Fprintf(t, "   %s\t%s\t%s\t%s\n", c.mark(), c.Name, c.text(), c.limit())
		}
		for _, f := range row.Figures {
			fmt.Fprintf(t, "   \t%s\t%s\t\n", f.Name, f.text())
		}
		for _, d := range row.Dists {
			fmt.Fprintf(t, "   \t%s\t%s\t\n", d.Name, distText(d.Dist))
		}
	}
	t.Flush()
	r.Large.writeTable(w)
	fmt.Fprintf(w, "\n%s\n", r.summary())
	return nil
}

// others says how far the machine was ours.
func (m machine) others() string {
	if len(m.Busy.All) == 0 {
		return "Nothing was measured by turns"
	}
	return fmt.Sprintf("Before each turn, others used %.0f %% of the processors (%.0f to %.0f %%)", 100*m.Busy.Median, 100*m.Busy.Min, 100*m.Busy.Max)
}

// summary says how many goals were missed, and which.
func (r *results) summary() string {
	var missed []string
	for _, row := range r.Rows {
		if !row.met() {
			missed = append(missed, fmt.Sprint(row.Number))
		}
	}
	if len(missed) == 0 {
		return "all goals are met"
	}
	return "goals missed, or not measured, in row " + strings.Join(missed, ", ")
}

func (c check) mark() string {
	if c.Met {
		return "met"
	}
	return "MISSED"
}

func (c check) limit() string {
	if c.AtLeast {
		return fmt.Sprintf("goal ≥ %s %s", short(c.Limit), c.Unit)
	}
	return fmt.Sprintf("goal ≤ %s %s", short(c.Limit), c.Unit)
}

// text is a number with its unit, and how far it spread if it was measured several times.
func (n number) text() string {
	switch {
	case len(n.All) == 0:
		return "not measured"
	case len(n.All) == 1:
		return short(n.Median) + " " + n.Unit
	}
	return fmt.Sprintf("%s %s (%s to %s)", short(n.Median), n.Unit, short(n.Min), short(n.Max))
}

func distText(d figure.Dist) string {
	if d.Count == 0 {
		return "nothing"
	}
	return fmt.Sprintf("p50 %s, p99 %s, p99.9 %s, max %s", duration(d.P50), duration(d.P99), duration(d.P999), duration(d.Max))
}

// duration is a time for people.
func duration(ns int64) string {
	switch {
	case ns >= 1e9:
		return short(float64(ns)/1e9) + " s"
	case ns >= 1e6:
		return short(float64(ns)/1e6) + " ms"
	}
	return short(float64(ns)/1e3) + " µs"
}

// short writes a number with three digits, so that a column of them can be compared at a glance.
func short(v float64) string {
	switch a := max(v, -v); {
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a == 0:
		return "0"
	}
	return fmt.Sprintf("%.2f", v)
}
