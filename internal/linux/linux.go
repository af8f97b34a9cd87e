// Package linux has the build fail with one clear line on any other system. It is imported, for nothing else, by each package that
// needs Linux: Go does not compile a package whose imports do not compile, so that line is the only one.
package linux
