package backends

import "context"

// Viewer is a [Backend] that keeps records in memory, and beside each of them what
// its readers made of it.
type Viewer interface {
	Backend

	// View is Get for those who change nothing of what they are given.
	View(ctx context.Context, key string) (View, error)
}

// View is a record that is shared by all who look at it meanwhile.
type View struct {
	// Record is as storage returned it, without its Value when Made is not nil.
	Record Record
	// Made is what a reader gave to Keep of this very record, or nil.
	Made any
	// Keeper, when not nil, takes what a reader made of the record. Giving it to it is
	// how the verifying and decoding of a record is done once.
	Keeper Keeper
}

// Keeper keeps something in the place of a record's bytes until the record changes.
type Keeper interface {
	// Keep takes what is immutable from then on, and about how many bytes it has.
	Keep(made any, bytes int)
}
