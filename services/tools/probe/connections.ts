/** Probes of connections (TCP, TLS, Kafka in plain text, HTTP) and of the process itself. */
import { accessSync, constants } from "node:fs";
import net from "node:net";
import tls from "node:tls";
import type { Finding, ProbeData, ProbeOf } from "../../protocol/probe.ts";
import { errorText } from "../../runtime/log.ts";
import { codeOf, failure, pem, pems, success } from "./finding.ts";

/** TLS 1.3: the server's refusal of a client certificate arrives after the client has completed the handshake. */
const ALERT_WAIT_MS = 1500;
const MAX_BODY_CHARS = 2000;

function withSocket(
  open: () => net.Socket,
  timeoutMs: number,
  wire: (socket: net.Socket, finish: (finding: Finding<undefined>) => void) => void,
): Promise<Finding<undefined>> {
  return new Promise((resolve) => {
    const socket = open();
    let finished = false;
    const finish = (finding: Finding<undefined>) => {
      if (finished) return;
      finished = true;
      clearTimeout(timer);
      socket.destroy();
      resolve(finding);
    };
    const timer = setTimeout(() => finish(failure("timeout", `${timeoutMs} ms`)), timeoutMs);
    socket.on("error", (error) => finish(failure(`refused:${codeOf(error)}`, errorText(error))));
    socket.on("close", () => finish(failure("refused:closed", "the server closed")));
    socket.on("end", () => finish(failure("refused:closed", "the server closed")));
    wire(socket, finish);
  });
}

export const probeTcp = ({ host, port }: ProbeOf<"tcp">, timeoutMs: number) =>
  withSocket(
    () => net.connect({ host, port }),
    timeoutMs,
    (socket, finish) => socket.on("connect", () => finish(success(undefined, "", "connected"))),
  );

export async function probeTls(probe: ProbeOf<"tls">, timeoutMs: number): Promise<Finding<undefined>> {
  const { host, port, servername } = probe;
  const { ca, cert, key } = await pems(probe);
  const name = servername ?? (net.isIP(host) ? undefined : host);
  return await withSocket(
    () =>
      tls.connect({
        host,
        port,
        ...(name ? { servername: name } : {}),
        ...(ca ? { ca } : {}),
        ...(cert ? { cert } : {}),
        ...(key ? { key } : {}),
        minVersion: "TLSv1.2",
      }),
    timeoutMs,
    (socket, finish) =>
      socket.on("secureConnect", () => {
        const { authorized, authorizationError } = socket as tls.TLSSocket;
        if (!authorized) return finish(failure("refused:untrusted_server", String(authorizationError)));
        const protocol = (socket as tls.TLSSocket).getProtocol();
        setTimeout(() => finish(success(undefined, String(protocol), "handshake_ok")), ALERT_WAIT_MS);
      }),
  );
}

/** Sends an ApiVersions request (version 0) in plain text: any Kafka listener without TLS answers it. */
export function probePlaintextKafka({ host, port }: ProbeOf<"plaintext_kafka">, timeoutMs: number) {
  const clientId = "probe";
  const request = Buffer.alloc(4 + 2 + 2 + 4 + 2 + clientId.length);
  request.writeInt32BE(request.length - 4, 0);
  request.writeInt16BE(18, 4);
  request.writeInt16BE(0, 6);
  request.writeInt32BE(1, 8);
  request.writeInt16BE(clientId.length, 12);
  request.write(clientId, 14);
  return withSocket(
    () => net.connect({ host, port }),
    timeoutMs,
    (socket, finish) => {
      socket.on("connect", () => socket.write(request));
      socket.on("data", (data: Buffer) => {
        // A Kafka answer starts with its length and our correlation id, a TLS alert with 0x15.
        const isKafka = data.length >= 8 && data.readInt32BE(4) === 1;
        finish(
          isKafka
            ? success(undefined, "", "answered_plaintext")
            : failure("refused:tls_alert", `answered ${data.subarray(0, 8).toString("hex")}`),
        );
      });
    },
  );
}

export async function probeHttp(
  probe: ProbeOf<"http">,
  timeoutMs: number,
): Promise<Finding<ProbeData<ProbeOf<"http">>>> {
  const ca = await pem(probe.ca);
  const response = await fetch(probe.url, {
    method: probe.method ?? "GET",
    headers: probe.headers ?? {},
    body: probe.body,
    redirect: "manual",
    ...(ca ? { tls: { ca } } : {}),
    signal: AbortSignal.timeout(timeoutMs),
  });
  const body = (await response.text()).slice(0, MAX_BODY_CHARS);
  const data = { status: response.status, body };
  return { ok: response.ok, outcome: String(response.status), detail: body.slice(0, 200), data };
}

export function probeSelf() {
  const isWritable = (path: string) => {
    try {
      accessSync(path, constants.W_OK);
      return true;
    } catch {
      return false;
    }
  };
  const rootWritable = ["/", "/app", "/usr"].some(isWritable);
  return success({ uid: process.getuid?.(), gid: process.getgid?.(), rootWritable });
}
