package file

import "cmp"

// settings are what a configuration says of the store, under glance's name.
type settings struct {
	Dir string `yaml:"filesystem_store_datadir"`
}

// FromSettings makes the driver that a configuration describes; decode fills a
// struct with yaml tags and refuses unknown names. dir is where the files are if
// it does not say.
func FromSettings(dir string, decode func(any) error) (*Driver, error) {
	var s settings
	if err := decode(&s); err != nil {
		return nil, err
	}
	return New(cmp.Or(s.Dir, dir), Options{})
}
