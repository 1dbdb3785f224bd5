/**
 * Forwards connections of a port-forward to one server. The pods of a cluster may reach an external database that the
 * workstation of a command does not. TLS stays between the command and the server.
 *
 *   bun relay.js HOST PORT LISTEN_PORT
 */
import net from "node:net";

const [host = "", port, listenPort] = process.argv.slice(2);

/** kubectl port-forward connects to the pod's loopback address, and nobody else can. */
net
  .createServer((client) => {
    const server = net.connect({ host, port: Number(port) });
    client.pipe(server).pipe(client);
    const end = () => {
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) socket.on("error", end).on("close", end);
  })
  .listen(Number(listenPort), "127.0.0.1", () => console.log(`relay to ${host}:${port}`));
