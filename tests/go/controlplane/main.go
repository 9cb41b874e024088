// Command controlplane runs one part of a Kubernetes control plane, named by its
// first argument: etcd, apiserver or controller-manager. Tests and the demo start
// all three on loopback; there is no kubelet, so pods are admitted and stay Pending.
package main

import (
	"context"
	"fmt"
	"log"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

const usage = "usage: controlplane etcd DIR CLIENT_URL PEER_URL | apiserver FLAGS | controller-manager FLAGS"

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	part := os.Args[1]
	os.Args = append([]string{part}, os.Args[2:]...)
	switch part {
	case "etcd":
		runEtcd(os.Args[1:])
	case "apiserver":
		os.Exit(run(apiserver.NewAPIServerCommand()))
	case "controller-manager":
		os.Exit(run(controllermanager.NewControllerManagerCommand()))
	default:
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
}

func run(command *cobra.Command) int { return cli.Run(command) }

// runEtcd keeps its data in DIR without fsync: a test's cluster need not survive a
// power cut, and fsync is most of what creating resources would cost.
func runEtcd(args []string) {
	if len(args) != 3 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	config := embed.NewConfig()
	config.Dir = args[0]
	client, peer := mustParse(args[1]), mustParse(args[2])
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.UnsafeNoFsync = true
	config.LogLevel = "warn"
	server, err := embed.StartEtcd(config)
	if err != nil {
		log.Fatalf("etcd: %v", err)
	}
	defer server.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	select {
	case <-ctx.Done():
	case err := <-server.Err():
		log.Fatalf("etcd: %v", err)
	}
}

func mustParse(text string) url.URL {
	parsed, err := url.Parse(text)
	if err != nil {
		log.Fatalf("etcd: %v", err)
	}
	return *parsed
}
