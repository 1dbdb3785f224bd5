// Serves a container registry without TLS on the given addresses, which share one content: blobs in a folder, manifests in
// memory.
//
//	registry FOLDER ADDRESS...
package main

import (
	"log"
	"net"
	"net/http"
	"os"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	if len(os.Args) < 3 {
		log.Fatal("usage: registry FOLDER ADDRESS...")
	}
	quiet := registry.Logger(log.New(os.Stderr, "", 0))
	handler := registry.New(registry.WithBlobHandler(registry.NewDiskBlobHandler(os.Args[1])), quiet)
	failed := make(chan error)
	for _, address := range os.Args[2:] {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			log.Fatal(err)
		}
		go func() { failed <- http.Serve(listener, handler) }()
	}
	log.Fatal(<-failed)
}
