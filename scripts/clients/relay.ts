/** Connections to a server of other people through a pod: the workstation need not reach it, and names of the cluster resolve. */
import type { Cluster, PortForward } from "../cluster/cluster.ts";
import { endpointOf } from "../cluster/external-stores.ts";
import { type OneOffPod, startPod } from "../cluster/one-off-pods.ts";
import { deployedServicesImage } from "../cluster/services-image.ts";

/** Port of the relay in its pod. */
const RELAY_PORT = 8086;

/** Forwards a port of this machine to an external server; the caller closes it. @param url of the server */
export async function openRelay(cluster: Cluster, url: string): Promise<PortForward> {
  const { host, port } = endpointOf(url);
  const pod: OneOffPod = {
    prefix: "relay",
    image: await deployedServicesImage(cluster),
    // The policies of the observer: it may connect to the external servers.
    labels: { "app.kubernetes.io/name": "observer", "app.kubernetes.io/instance": "observer" },
    command: ["bun", "/app/relay.js", host, String(port), String(RELAY_PORT)],
  };
  const { name, remove } = await startPod(cluster, pod, new AbortController().signal);
  try {
    const forward = await cluster.portForward(`pod/${name}`, RELAY_PORT);
    const close = async () => {
      await forward.close();
      await remove();
    };
    return { port: forward.port, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await remove();
    throw error;
  }
}
