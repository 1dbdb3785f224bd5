/**
 * bun run bench [--events=1000000]
 *
 * The cost of one event: in the domain code alone, in the processor between a real broker and a real InfluxDB, and in the
 * intake; and the latency of a sender beside others that are refused.
 */
import { benchDomain } from "./domain.ts";
import { FORMS } from "./forms.ts";
import { benchIntake, EVENTS_PER_REQUEST } from "./intake.ts";
import { benchProcessor, DEFAULT_EVENTS } from "./processor.ts";

const argument = process.argv.find((text) => text.startsWith("--events="))?.slice("--events=".length);
const events = Number(argument ?? DEFAULT_EVENTS);
if (!Number.isInteger(events) || events < 50_000) {
  console.error(
    `--events: must be a whole number of at least 50000 (fewer end before they can be measured); got ${argument}`,
  );
  process.exit(2);
}

console.log("Domain code (one core, warm):");
for (const { what, microsecondsPerEvent } of benchDomain()) {
  console.log(`  ${microsecondsPerEvent.toFixed(2).padStart(6)} µs/event  ${what}`);
}
console.log(`\nProcessor, ${events} events, Kafka and InfluxDB over TLS on loopback:`);
const { kafkajsFloor, floor, processor, idleCpuPercent, points } = await benchProcessor(events, (line) =>
  console.log(`  ${line}`),
);
const row = (name: string, figures: typeof floor) =>
  `  ${name.padEnd(36)} ${Math.round(figures.eventsPerSecond).toString().padStart(9)} events/s ` +
  `${figures.cpuSecondsPerMillion.toFixed(2).padStart(6)} CPU-s per million  ${Math.round(figures.maxRssMb)} MB`;
console.log(row("floor with kafkajs' decoder", kafkajsFloor));
console.log(row("floor: only consumes", floor));
for (const form of FORMS) console.log(row(`processor, ${form}: all confirmed`, processor[form]));
const first = processor["version 1"].cpuSecondsPerMillion;
console.log(
  `  version 1: ${(first / floor.cpuSecondsPerMillion).toFixed(2)} times the floor, ` +
    `${(first / kafkajsFloor.cpuSecondsPerMillion).toFixed(2)} times kafkajs' floor; ` +
    `idle ${idleCpuPercent.toFixed(2)} % of a core; ${points} points = ${events} events`,
);
for (const form of FORMS.slice(1)) {
  console.log(`  ${form}: ${(processor[form].cpuSecondsPerMillion / first).toFixed(2)} times version 1`);
}

console.log(`\nIntake, requests of ${EVENTS_PER_REQUEST} events over TLS, acknowledged by Kafka:`);
const intake = await benchIntake();
for (const form of FORMS) {
  console.log(`  ${intake.cpuSecondsPerMillion[form].toFixed(2).padStart(6)} CPU-s per million  ${form}`);
}
const latency = ({ p50Ms, p99Ms }: typeof intake.alone) => `p50 ${p50Ms.toFixed(2)} ms, p99 ${p99Ms.toFixed(2)} ms`;
console.log(`  one event per request, alone: ${latency(intake.alone)}`);
console.log(`  beside four refused senders:  ${latency(intake.beside)}`);
for (const [sender, answers] of Object.entries(intake.refused)) {
  const counts = Object.entries(answers).map(([status, count]) => `${count} x ${status}`);
  console.log(`    ${sender.padEnd(8)} ${counts.join(", ")}`);
}
