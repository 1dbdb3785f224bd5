import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { createTokenSource } from "../../../services/kafka/oauth-token.ts";
import { testCertificate } from "../certificate.ts";

const SECRET = "se cret:+";
let server: ReturnType<typeof Bun.serve>;
let ca: string;
let answer: () => Response;
let requests: { authorization: string | null; body: string }[] = [];

beforeAll(async () => {
  const certificate = await testCertificate();
  ca = certificate.ca;
  server = Bun.serve({
    port: 0,
    tls: { cert: certificate.cert, key: certificate.key },
    fetch: async (request) => {
      requests.push({ authorization: request.headers.get("authorization"), body: await request.text() });
      return answer();
    },
  });
});
afterAll(() => server.stop(true));
beforeEach(() => {
  requests = [];
  let number = 0;
  answer = () => Response.json({ access_token: `token-${++number}`, expires_in: 100 });
});

const options = () => ({ tokenUrl: `https://localhost:${server.port}/token`, username: "me", password: SECRET, ca });

test("a token is kept until 30 s before its end, and concurrent callers share a request", async () => {
  let nowMs = 0;
  const token = createTokenSource({ ...options(), scope: "kafka" }, () => nowMs);
  expect(await Promise.all([token(), token()])).toEqual([{ value: "token-1" }, { value: "token-1" }]);
  nowMs = 69_999;
  expect(await token()).toEqual({ value: "token-1" });
  nowMs = 70_000;
  expect(await token()).toEqual({ value: "token-2" });
  expect(requests).toHaveLength(2);
  expect(requests[0]!.body).toBe("grant_type=client_credentials&scope=kafka");
  // Encoded as in a form before both parts are joined.
  expect(requests[0]!.authorization).toBe(`Basic ${btoa("me:se+cret%3A%2B")}`);
});

test("a short-lived token is kept for half of its life", async () => {
  let nowMs = 0;
  answer = () => Response.json({ access_token: "short", expires_in: 20 });
  const token = createTokenSource(options(), () => nowMs);
  await token();
  nowMs = 9999;
  await token();
  expect(requests).toHaveLength(1);
  nowMs = 10_000;
  await token();
  expect(requests).toHaveLength(2);
});

test("a refusal names address and answer, not the secret, and the next call tries again", async () => {
  const good = answer;
  answer = () => new Response("invalid_client", { status: 401 });
  const token = createTokenSource(options());
  const failure = String(await token().catch((error: unknown) => error));
  expect(failure).toContain(`${options().tokenUrl} answered 401: invalid_client`);
  expect(failure).not.toContain(SECRET);
  answer = () => new Response("<html>");
  expect(token()).rejects.toThrow("the answer has no access_token");
  answer = good;
  expect(await token()).toEqual({ value: "token-1" });
});

test("an identity provider whose certificate no trusted CA has issued is refused", async () => {
  const token = createTokenSource({ ...options(), ca: undefined });
  expect(token()).rejects.toThrow();
  expect(requests).toEqual([]);
});
