package lab

// Parse reads a topology file. name is what the file is called in errors; relative paths in it are below its directory. Mistakes are
// one drill.Error of kind Invalid that names all of them with line and column.
func Parse(text []byte, name string) (Topology, error) { return Topology{}, errNotBuilt }
