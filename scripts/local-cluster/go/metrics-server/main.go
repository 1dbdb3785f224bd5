// metrics-server is metrics-server's own program with one repair: its generated API description names types by their Go
// path, and the Kubernetes libraries that it shares with the rest of this module look for the canonical names. Built
// with the older libraries of its own go.mod it would take two minutes longer.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/pflag"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/component-base/logs"
	"k8s.io/kube-openapi/pkg/common"
	openapiutil "k8s.io/kube-openapi/pkg/util"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/metrics-server/cmd/metrics-server/app/options"
	"sigs.k8s.io/metrics-server/pkg/api"
	generated "sigs.k8s.io/metrics-server/pkg/api/generated/openapi"
)

func definitions(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	renamed := map[string]common.OpenAPIDefinition{}
	canonicalRef := func(path string) spec.Ref { return ref(openapiutil.ToRESTFriendlyName(path)) }
	for name, definition := range generated.GetOpenAPIDefinitions(canonicalRef) {
		for i, dependency := range definition.Dependencies {
			definition.Dependencies[i] = openapiutil.ToRESTFriendlyName(dependency)
		}
		renamed[openapiutil.ToRESTFriendlyName(name)] = definition
	}
	return renamed
}

func run() error {
	settings := options.NewOptions()
	flags := pflag.NewFlagSet("metrics-server", pflag.ExitOnError)
	for _, set := range settings.Flags().FlagSets {
		flags.AddFlagSet(set)
	}
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}
	if problems := settings.Validate(); len(problems) > 0 {
		return problems[0]
	}
	config, err := settings.ServerConfig()
	if err != nil {
		return err
	}
	namer := openapinamer.NewDefinitionNamer(api.Scheme)
	info := config.Apiserver.OpenAPIConfig.Info
	config.Apiserver.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(definitions, namer)
	config.Apiserver.OpenAPIConfig.Info = info
	config.Apiserver.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(definitions, namer)
	config.Apiserver.OpenAPIV3Config.Info = info
	server, err := config.Complete()
	if err != nil {
		return err
	}
	return server.RunUntil(genericapiserver.SetupSignalHandler())
}

func main() {
	logs.InitLogs()
	defer logs.FlushLogs()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "metrics-server:", err)
		os.Exit(1)
	}
}
