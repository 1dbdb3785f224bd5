/** Access tokens for SASL OAUTHBEARER, by the client credentials grant of OAuth 2.0 (RFC 6749, section 4.4). */
import { rootCertificates } from "node:tls";
import type { Credentials } from "../runtime/config.ts";

/** An identity provider answers within some hundred milliseconds. */
const TOKEN_LIMIT_MS = 10_000;
/** kafkajs authenticates again 10 s before a token expires, and must then get another one. */
const RENEW_BEFORE_MS = 30_000;
/** Part of an error body that is reported. */
const MAX_ERROR_CHARS = 200;

export interface TokenOptions extends Credentials {
  tokenUrl: string;
  scope?: string;
  /** Trusted in addition to the public CAs. */
  ca?: string | undefined;
}

interface Token {
  value: string;
  renewAtMs: number;
}

/** Returns a function that gives the current token; a new one is requested before the old one expires. */
export function createTokenSource(options: TokenOptions, nowMs = () => performance.now()) {
  let held: Token | undefined;
  let pending: Promise<Token> | undefined;
  return async (): Promise<{ value: string }> => {
    if (held && nowMs() < held.renewAtMs) return { value: held.value };
    // Concurrent callers share a request.
    pending ??= requestToken(options, nowMs).finally(() => {
      pending = undefined;
    });
    held = await pending;
    return { value: held.value };
  };
}

/** @throws Error that names the address and the answer; never a secret */
async function requestToken(
  { tokenUrl, scope, username, password, ca }: TokenOptions,
  nowMs: () => number,
): Promise<Token> {
  const requestedAtMs = nowMs();
  // Both parts are encoded as in a form before they are joined (RFC 6749, section 2.3.1).
  const basic = [username, password].map((part) => new URLSearchParams({ part }).toString().slice("part=".length));
  const response = await fetch(tokenUrl, {
    method: "POST",
    headers: { authorization: `Basic ${Buffer.from(basic.join(":")).toString("base64")}`, accept: "application/json" },
    body: new URLSearchParams({ grant_type: "client_credentials", ...(scope ? { scope } : {}) }),
    tls: ca ? { ca: [...rootCertificates, ca] } : {},
    redirect: "error",
    signal: AbortSignal.timeout(TOKEN_LIMIT_MS),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${tokenUrl} answered ${response.status}: ${text.slice(0, MAX_ERROR_CHARS)}`);
  const { access_token: value, expires_in: seconds } = parsed(text);
  if (typeof value !== "string" || value === "") throw new Error(`${tokenUrl}: the answer has no access_token`);
  const lifetimeMs = (typeof seconds === "number" && seconds > 0 ? seconds : 0) * 1000;
  return { value, renewAtMs: requestedAtMs + Math.max(lifetimeMs - RENEW_BEFORE_MS, lifetimeMs / 2) };
}

function parsed(text: string): { access_token?: unknown; expires_in?: unknown } {
  try {
    return (JSON.parse(text) as object | null) ?? {};
  } catch {
    return {};
  }
}
