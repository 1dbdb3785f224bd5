// network-policies enforces NetworkPolicies on one node: kube-router's policy controller, without its router and
// service proxy, which are not used here and bring a BGP server and a cloud's client library to compile.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	"github.com/cloudnativelabs/kube-router/v2/pkg/utils"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// familySets are the sets of one address family. Two flaws of the controller's own ones show with both families only:
// its rules name sets of IPv6 without the prefix that it gives them (cloudnativelabs/kube-router#1653), and each family
// writes back what it last read of the other one's sets (cloudnativelabs/kube-router#1927).
type familySets struct {
	*utils.IPSet
	family string
}

// newFamilySets makes sets without a prefix, which is that of IPv4 sets for the library.
func newFamilySets(family string) (familySets, error) {
	sets, err := utils.NewIPSet(false)
	return familySets{IPSet: sets, family: family}, err
}

func (sets familySets) RefreshSet(name string, entries [][]string, setType string) {
	sets.IPSet.RefreshSet(name, entries, setType)
	if set := sets.Get(name); !slices.Contains(set.Options, "family") {
		set.Options = append(set.Options, "family", sets.family)
	}
}

func (sets familySets) Save() error {
	if err := sets.IPSet.Save(); err != nil {
		return err
	}
	for name, set := range sets.Sets() {
		if !slices.Contains(set.Options, sets.family) {
			delete(sets.Sets(), name)
		}
	}
	return nil
}

func run() error {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig of the cluster")
	node := flag.String("node", "", "name of this node")
	services := flag.String("services", "", "address ranges of services, one of each family, separated by a comma")
	klog.InitFlags(nil)
	flag.Parse()
	if *kubeconfig == "" || *node == "" || *services == "" {
		return fmt.Errorf("usage: network-policies --kubeconfig FILE --node NAME --services RANGE[,RANGE]")
	}
	settings := options.NewKubeRouterConfig()
	settings.EnableIPv4 = true
	settings.EnableIPv6 = strings.Contains(*services, ":")
	settings.RunFirewall = true
	settings.HostnameOverride = *node
	settings.ClusterIPCIDRs = strings.Split(*services, ",")

	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		close(stop)
	}()

	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	policies := factory.Networking().V1().NetworkPolicies().Informer()
	factory.Start(stop)
	if !cache.WaitForCacheSync(stop, pods.HasSynced, namespaces.HasSynced, policies.HasSynced) {
		return nil // told to end
	}
	iptables, ipsets, err := netpol.NewIPTablesHandlers(settings)
	if err != nil {
		return err
	}
	if settings.EnableIPv6 {
		for family, name := range map[v1.IPFamily]string{v1.IPv4Protocol: "inet", v1.IPv6Protocol: "inet6"} {
			if ipsets[family], err = newFamilySets(name); err != nil {
				return err
			}
		}
	}
	var ipsetMutex sync.Mutex
	controller, err := netpol.NewNetworkPolicyController(client, settings, pods, policies, namespaces, &ipsetMutex, iptables, ipsets)
	if err != nil {
		return err
	}
	for informer, handler := range map[cache.SharedIndexInformer]cache.ResourceEventHandler{
		pods:       controller.PodEventHandler,
		namespaces: controller.NamespaceEventHandler,
		policies:   controller.NetworkPolicyEventHandler,
	} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}
	// The controller reports every sync here, and blocks when nobody reads.
	heartbeats := make(chan *healthcheck.ControllerHeartbeat, 10)
	go func() {
		for range heartbeats {
		}
	}()
	var running sync.WaitGroup
	running.Add(1)
	go controller.Run(heartbeats, stop, &running)
	running.Wait()
	return nil
}

func main() {
	defer klog.Flush()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "network-policies:", err)
		os.Exit(1)
	}
}
