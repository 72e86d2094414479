package config

// schema is what one TOML file may contain.
type schema struct {
	command  string     // the subcommand, for hints
	settings []*setting // all but those of elements
	elements []elements
	groups   []group // in the order of the reference
	// Keys, tables and flags of later versions, with a hint.
	later      map[string]string
	laterFlags []laterFlag
	// Keys that other programs have, with a hint.
	instead map[string]string
}

// group is the top of a file, a [table], or a [[table]], with a paragraph for
// the reference.
type group struct{ table, doc string }

// elements is an array of tables in a file, such as [[user]].
type elements interface {
	// name is the table's, "user".
	name() string
	// add makes one more element, and returns its settings and its index.
	add() ([]*setting, int)
	// store appends the elements made by add to the configuration.
	store()
}

// elementsOf fills a list of T.
type elementsOf[T any] struct {
	table    string
	to       *[]T
	settings func(*T) []*setting
	// added wait for store: a list moves when it grows, and the settings point
	// into its items.
	added []*T
}

func (e *elementsOf[T]) name() string { return e.table }

func (e *elementsOf[T]) add() ([]*setting, int) {
	x := new(T)
	e.added = append(e.added, x)
	return e.settings(x), len(*e.to) + len(e.added) - 1
}

func (e *elementsOf[T]) store() {
	for _, x := range e.added {
		*e.to = append(*e.to, *x)
	}
	e.added = nil
}

// array returns the array of tables with the name, or nil.
func (s *schema) array(name string) elements {
	for _, e := range s.elements {
		if e.name() == name {
			return e
		}
	}
	return nil
}
