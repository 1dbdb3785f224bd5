/** Every wrapping and encoding at both doors, in process: taken, or refused as a whole before there is a dead letter. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { OperatorError } from "../../../scripts/cli/errors.ts";
import { readInput } from "../../../scripts/ingest/input.ts";
import { csvSettings } from "../../../services/domain/formats/csv-settings.ts";
import type { EventProducer } from "../../../services/kafka/event-producer.ts";
import type { EventPublisher } from "../../../services/producer/event-publisher.ts";
import { type Intake, startIntake } from "../../../services/producer/intake.ts";
import { SenderUsage } from "../../../services/producer/sender-usage.ts";
import { readInput as readByProducer } from "../../../services/producer/sources.ts";
import { VALID, type Wrapping, wrappings } from "../../wrappings.ts";
import { testCertificate } from "../certificate.ts";
import { DLQ, FakeCluster, producerOn, publisherOn, TOPIC } from "../fake-cluster.ts";

let cluster: FakeCluster;
let producer: EventProducer;
let publisher: EventPublisher;

beforeEach(() => {
  cluster = new FakeCluster(6, 3);
  producer = producerOn(cluster);
  publisher = publisherOn(producer);
  producer.start();
});
afterEach(async () => await producer.stop());

const cases = wrappings("wrapped", Date.now());
const { signal } = new AbortController();

const inKafka = () => ({
  events: cluster.records(TOPIC).length,
  deadLetters: cluster.records(DLQ).map(({ headers }) => headers?.reason),
});
const taken = ({ reason }: Wrapping) => ({ events: VALID, deadLetters: [reason] });
const NOTHING = { events: 0, deadLetters: [] };

describe("the intake", () => {
  let intake: Intake;
  let ca: string;
  beforeEach(async () => {
    const certificate = await testCertificate();
    ca = certificate.ca;
    intake = startIntake({
      port: 0,
      tls: certificate,
      senders: { find: () => ({ name: "token" }) },
      usage: new SenderUsage(),
      publisher,
      producer,
    });
  });
  afterEach(async () => await intake.stop());

  async function post({ bytes, headers, csv = {} }: Wrapping) {
    const query = new URLSearchParams(
      Object.entries(csv).flatMap(([name, values]) =>
        [values ?? []].flat().map((value): [string, string] => [name, value]),
      ),
    );
    const response = await fetch(`https://localhost:${intake.port}/events?${query}`, {
      method: "POST",
      headers: { authorization: "Bearer t", ...headers },
      body: bytes as BodyInit,
      tls: { ca },
    });
    return { status: response.status, answer: (await response.json()) as { error?: string } };
  }

  test.each(cases.map((one): [string, Wrapping] => [one.name, one]))("%s", async (_, wrapping) => {
    const { status, answer } = await post(wrapping);
    if (wrapping.intake === undefined) {
      expect({ status, answer, ...inKafka() }).toMatchObject({ status: 207, ...taken(wrapping) });
    } else {
      expect({ status, ...inKafka() }).toEqual({ status: 415, ...NOTHING });
      expect(answer.error).toContain(wrapping.intake);
      expect(answer.error).toEndWith("; nothing was taken");
    }
  });
});

describe("ingest", () => {
  async function send({ bytes, csv = {} }: Wrapping): Promise<Error | undefined> {
    const open = async function* () {
      yield bytes;
    };
    try {
      const { lines } = await readInput(open, true, { csv: csvSettings(csv), precision: "ns", signal });
      await readByProducer(lines, { publisher, producer, source: "stdin", signal });
      await producer.flush();
      return undefined;
    } catch (error) {
      return error as Error;
    }
  }

  test.each(cases.map((one): [string, Wrapping] => [one.name, one]))("%s", async (_, wrapping) => {
    const error = await send(wrapping);
    if (wrapping.ingest === undefined) {
      expect({ error, ...inKafka() }).toEqual({ error: undefined, ...taken(wrapping) });
    } else {
      const { message, hint, exitCode } = error as OperatorError;
      expect(exitCode).toBe(2);
      expect(`${message}; ${hint}`).toContain(wrapping.ingest);
      expect(inKafka()).toEqual(NOTHING);
    }
  });
});
