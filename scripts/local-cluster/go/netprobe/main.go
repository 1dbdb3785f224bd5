// netprobe answers whether a connection between two pods is possible; `up` proves with it that a denied one is denied.
//
//	netprobe serve :8080            accepts, says hello, closes
//	netprobe dial 10.0.0.1:8080 2s  exit 0 and "open" when hello came; exit 1 and the reason when it did not
package main

import (
	"fmt"
	"net"
	"os"
	"time"
)

const hello = "hello"

func main() {
	switch {
	case len(os.Args) == 3 && os.Args[1] == "serve":
		listener, err := net.Listen("tcp", os.Args[2])
		if err != nil {
			fail(err)
		}
		for {
			connection, err := listener.Accept()
			if err != nil {
				fail(err)
			}
			_, _ = connection.Write([]byte(hello))
			_ = connection.Close()
		}
	case len(os.Args) == 4 && os.Args[1] == "dial":
		limit, err := time.ParseDuration(os.Args[3])
		if err != nil {
			usage()
		}
		connection, err := net.DialTimeout("tcp", os.Args[2], limit)
		if err != nil {
			fail(err)
		}
		_ = connection.SetDeadline(time.Now().Add(limit))
		answer := make([]byte, len(hello))
		if _, err := connection.Read(answer); err != nil {
			fail(err)
		}
		fmt.Println("open")
	default:
		usage()
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: netprobe serve ADDRESS | netprobe dial ADDRESS LIMIT")
	os.Exit(2)
}

func fail(err error) {
	fmt.Println(err)
	os.Exit(1)
}
