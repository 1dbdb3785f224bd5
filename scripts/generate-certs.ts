/**
 * Makes the certificates that the pipeline's parts show each other: one CA, one certificate per broker and client.
 *
 *   bun scripts/generate-certs.ts                 make what is missing, renew what ends within 30 days, keep the rest
 *   bun scripts/generate-certs.ts --force         issue all of them anew, under the same CA
 *   bun scripts/generate-certs.ts --json          for machines
 *
 * deploy does the same before it applies anything, and the pods of a renewed certificate are rolled by it.
 */
import { relative, resolve } from "node:path";
import { type CommandSpec, runCommand } from "./cli/command.ts";
import {
  type CertificateStatus,
  DEFAULT_LEAF_DAYS,
  DEFAULT_RENEW_BEFORE_MS,
  ensureCertificates,
  MAX_LEAF_DAYS,
} from "./deploy/certificates.ts";

const flags = {
  days: {
    type: "number",
    default: DEFAULT_LEAF_DAYS,
    min: 1,
    max: MAX_LEAF_DAYS,
    description: "life of a certificate, in days",
  },
  "renew-before": {
    type: "duration",
    default: DEFAULT_RENEW_BEFORE_MS,
    description: "renew what ends within this time, for example 30d",
  },
  force: { type: "boolean", description: "issue every certificate anew, under the same CA" },
  "new-ca": { type: "boolean", description: "make a new CA too; everything has to be deployed anew at once" },
  dir: { type: "string", valueName: "DIR", default: "certs", description: "where they are kept" },
} as const;

const spec: CommandSpec<typeof flags> = {
  name: "scripts/generate-certs.ts",
  summary: "the CA and the certificates of every broker, server and client",
  usage: ["[flags]"],
  examples: [
    ["bun scripts/generate-certs.ts", "make what is missing, renew what ends soon, keep the rest"],
    ["bun scripts/generate-certs.ts --renew-before 90d --days 365", "renew earlier than usual"],
    ["bun scripts/generate-certs.ts --force && bun scripts/deploy.ts", "new keys everywhere, rolled out"],
  ],
  flags,
  notes: ["The folder holds private keys, among them the CA's. It is ignored by git; keep it out of backups too."],
};

/** One row per certificate: what was done, days left, names. */
export function tableOf(statuses: readonly CertificateStatus[]): string[] {
  const rows = statuses.map(({ name, action, daysLeft, subjectAltNames, reason }) => [
    name,
    action + (reason ? ` (${reason})` : ""),
    String(daysLeft),
    subjectAltNames.map((entry) => entry.replace(/^(DNS|IP):/, "")).join(" "),
  ]);
  const head = ["certificate", "action", "days left", "names"];
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)));
  return [head, ...rows].map((row) =>
    row
      .map((cell, column) => (column === 3 ? cell : cell.padEnd(widths[column]!)))
      .join("  ")
      .trimEnd(),
  );
}

if (import.meta.main) {
  await runCommand(spec, async ({ flags, report }) => {
    const folder = resolve(flags.dir);
    const statuses = await report.step(`certificates in ${relative(process.cwd(), folder) || "."}`, async (step) => {
      const made = await ensureCertificates(folder, {
        days: flags.days,
        renewBeforeMs: flags["renew-before"],
        force: flags.force,
        newCa: flags["new-ca"],
      });
      step.update(summaryOf(made));
      return made;
    });
    for (const line of tableOf(statuses)) report.print(line);
    report.result({ folder, certificates: statuses });
  });
}

/** "9 kept", "1 renewed, 8 kept". */
function summaryOf(statuses: readonly CertificateStatus[]): string {
  return (["created", "renewed", "kept"] as const)
    .map((action) => [statuses.filter((status) => status.action === action).length, action] as const)
    .filter(([count]) => count > 0)
    .map(([count, action]) => `${count} ${action}`)
    .join(", ");
}
