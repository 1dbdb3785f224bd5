// coredns is CoreDNS with only the plugins that a cluster without a way out needs: building all of
// them takes ten times as long.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/ready"
)

func main() {
	// The order in which a query passes the plugins; the Corefile's order means nothing.
	dnsserver.Directives = []string{"bind", "health", "ready", "prometheus", "errors", "cache", "kubernetes"}
	coremain.Run()
}
