/** What probes share: findings and PEM files. */
import { readFile } from "node:fs/promises";
import type { TlsFiles } from "../../protocol/kafka.ts";
import type { Finding } from "../../protocol/probe.ts";

export const success = <Data>(data: Data, detail = "", outcome = "ok"): Finding<Data> => ({
  ok: true,
  outcome,
  detail,
  data,
});
export const failure = (outcome: string, detail = ""): Finding<never> => ({ ok: false, outcome, detail });

export const codeOf = (error: unknown): string =>
  String((error as { code?: string }).code ?? (error as Error).name ?? "error").replace(/\s+/g, "_");

export const pem = async (value: string | undefined): Promise<string | undefined> =>
  value === undefined || value.includes("-----BEGIN") ? value : await readFile(value, "utf8");

export async function pems(source: TlsFiles) {
  const [ca, cert, key] = await Promise.all([pem(source.ca), pem(source.cert), pem(source.key)]);
  return { ca, cert, key };
}
