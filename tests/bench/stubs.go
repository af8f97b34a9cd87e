package main

import (
	"context"
	"errors"
	"io"
)

type large struct{}

func (l *large) writeTable(io.Writer) {}

type plot struct{}
type framesAt struct{}

func (b *bench) measureLarge(context.Context) (*large, error) { return nil, nil }
func (b *bench) plots() []plot                                { return nil }
func (r *results) writePage(io.Writer) error                  { return nil }
func serve(string) error                                      { return nil }

var errTodo = errors.New("not yet")

func rowIdle(ctx context.Context, b *bench, r *row) error   { return errTodo }
func rowFrames(ctx context.Context, b *bench, r *row) error { return errTodo }
func rowVisits(ctx context.Context, b *bench, r *row) error { return errTodo }
