// logkeeper bounds the log files of a folder: one that has grown beyond the limit is copied to NAME.1 and emptied.
// The programs keep their files open for appending, so nothing needs to be told to reopen.
//
//	logkeeper FOLDER LIMIT_BYTES
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Short enough that even a program that logs 1 MB/s stays within a few limits of the bound.
const interval = 15 * time.Second

func main() {
	limit := int64(0)
	if len(os.Args) == 3 {
		limit, _ = strconv.ParseInt(os.Args[2], 10, 64)
	}
	if limit <= 0 {
		fmt.Fprintln(os.Stderr, "usage: logkeeper FOLDER LIMIT_BYTES")
		os.Exit(2)
	}
	for {
		logs, _ := filepath.Glob(filepath.Join(os.Args[1], "*.log"))
		for _, log := range logs {
			if info, err := os.Stat(log); err == nil && info.Size() > limit {
				if err := rotate(log); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
			}
		}
		time.Sleep(interval)
	}
}

func rotate(log string) error {
	from, err := os.Open(log)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Create(log + ".1")
	if err != nil {
		return err
	}
	defer to.Close()
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	return os.Truncate(log, 0)
}
