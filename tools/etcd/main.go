// Command etcd is the etcd server at the version that go.mod pins, for the tests of
// backends/etcd. The server's own main package is named server, and so would its
// program be.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
