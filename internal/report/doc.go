// Package report turns finished simulator runs into what people read: summary
// statistics, a table for the terminal with sentences on who won where, JSON,
// and one self-contained HTML file.
//
// It decides nothing about a run and reads no clock, file or random source:
// the same [Report] gives the same bytes. The caller fills the model in
// model.go; [Judge], [WriteText], [WriteJSON] and [WriteHTML] only read it.
//
// A not-a-number or infinite value anywhere means "not defined" and is shown
// as a dash, written as null in JSON, and left as a gap in a chart.
package report
