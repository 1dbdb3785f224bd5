module conveyor/registry

go 1.26.5

require github.com/google/go-containerregistry v0.22.1
