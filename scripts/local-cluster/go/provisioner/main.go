// provisioner makes the volumes of the cluster's StorageClass: a folder per claim under one root, as a PersistentVolume
// of the kind `local`, or `hostPath` as local-path-provisioner's are. Folders outlive pods and nodes' restarts; with the reclaim policy Delete they go with their claim.
//
// Every node of this cluster runs on the same machine and sees the same folders, so a volume is tied to no node: like a
// network disk, it follows a pod that moves to another node. The kubelet sets the group of a `local` volume from fsGroup; to
// a `hostPath` volume it does nothing, so everyone may write there.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

const (
	local    = "local"
	hostPath = "hostPath"
)

type folders struct {
	root string
	// Kind of the volumes: local or hostPath.
	source string
}

// folder gives a volume's place; a name that would lead out of the root is refused.
func (f folders) folder(name string) (string, error) {
	if name == "" || name == "." || name == ".." || filepath.Base(name) != name {
		return "", fmt.Errorf("volume name %q: must be one path element", name)
	}
	return filepath.Join(f.root, name), nil
}

// Provision makes the folder. It may be called again for a volume that it made before: then the folder is kept.
func (f folders) Provision(_ context.Context, options controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	if mode := options.PVC.Spec.VolumeMode; mode != nil && *mode == v1.PersistentVolumeBlock {
		return nil, controller.ProvisioningFinished, fmt.Errorf("volumeMode: must be Filesystem; got %s", *mode)
	}
	if options.PVC.Spec.Selector != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("selector: a claim that is provisioned must not have one")
	}
	path, err := f.folder(options.PVName)
	if err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	source := v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: path}}
	if f.source == hostPath {
		if err := os.Chmod(path, 0o777); err != nil {
			return nil, controller.ProvisioningFinished, err
		}
		source = v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: path}}
	}
	everyNode := &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{
		MatchExpressions: []v1.NodeSelectorRequirement{{Key: v1.LabelOSStable, Operator: v1.NodeSelectorOpIn, Values: []string{"linux"}}},
	}}}}
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: v1.PersistentVolumeSpec{
			AccessModes:                   options.PVC.Spec.AccessModes,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: options.PVC.Spec.Resources.Requests[v1.ResourceStorage]},
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			MountOptions:                  options.StorageClass.MountOptions,
			VolumeMode:                    options.PVC.Spec.VolumeMode,
			NodeAffinity:                  everyNode,
			PersistentVolumeSource:        source,
		},
	}, controller.ProvisioningFinished, nil
}

// Delete removes the folder, and only one that is ours by its place.
func (f folders) Delete(_ context.Context, volume *v1.PersistentVolume) error {
	path, err := f.folder(volume.Name)
	if err != nil {
		return err
	}
	folder, host := volume.Spec.Local, volume.Spec.HostPath
	if (folder == nil || folder.Path != path) && (host == nil || host.Path != path) {
		return &controller.IgnoredError{Reason: fmt.Sprintf("its path is not %s", path)}
	}
	return os.RemoveAll(path)
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig of the cluster")
	root := flag.String("root", "", "folder that holds the volumes")
	source := flag.String("source", local, "kind of the volumes: local or hostPath")
	name := flag.String("name", "conveyor.local/folder", "provisioner's name in the StorageClass")
	klog.InitFlags(nil)
	flag.Parse()
	if *kubeconfig == "" || !filepath.IsAbs(*root) || (*source != local && *source != hostPath) {
		fmt.Fprintln(os.Stderr, "usage: provisioner --kubeconfig FILE --root ABSOLUTE-FOLDER [--source local|hostPath] [--name NAME]")
		os.Exit(2)
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		klog.ErrorS(err, "kubeconfig cannot be used")
		os.Exit(1)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		klog.ErrorS(err, "no client")
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// One instance by construction: no election.
	controller.NewProvisionController(ctx, client, *name, folders{root: *root, source: *source}, controller.LeaderElection(false)).Run(ctx)
}
