/**
 * Creates the certificates of the pipeline: one CA, one certificate per broker, server and client.
 *
 *   bun scripts/generate-certs.ts                 create missing ones, renew those that expire within 30 days, keep the rest
 *   bun scripts/generate-certs.ts --force         reissue all, under the same CA
 *   bun scripts/generate-certs.ts --json          as one JSON document
 *
 * deploy does the same before it applies anything, and restarts the pods whose certificate was renewed.
 */
import { relative, resolve } from "node:path";
import { defineCommand, runCommand } from "./cli/command.ts";
import { tableLines } from "./cli/report.ts";
import { NAMESPACE_FLAG } from "./cluster/target.ts";
import {
  type CertificateStatus,
  certificateFolder,
  DEFAULT_LEAF_DAYS,
  DEFAULT_RENEW_BEFORE_MS,
  ensureCertificates,
  identitiesFor,
  MAX_LEAF_DAYS,
  storedIntakeHosts,
} from "./deploy/certificates.ts";
import { parseHosts } from "./deploy/expose.ts";

/** One row per certificate: what was done, days left, names. */
export function tableOf(statuses: readonly CertificateStatus[]): string[] {
  const rows = statuses.map(({ name, action, daysLeft, subjectAltNames, reason }) => [
    name,
    action + (reason ? ` (${reason})` : ""),
    String(daysLeft),
    subjectAltNames.map((entry) => entry.replace(/^(DNS|IP):/, "")).join(" "),
  ]);
  return tableLines(["certificate", "action", "days left", "names"], rows);
}

/** "9 kept", "1 renewed, 8 kept". */
function summaryOf(statuses: readonly CertificateStatus[]): string {
  return (["created", "renewed", "kept"] as const)
    .map((action) => [statuses.filter((status) => status.action === action).length, action] as const)
    .filter(([count]) => count > 0)
    .map(([count, action]) => `${count} ${action}`)
    .join(", ");
}

export const command = defineCommand({
  name: "scripts/generate-certs.ts",
  summary: "the CA and the certificates of every broker, server and client",
  usage: ["[flags]"],
  examples: [
    ["bun scripts/generate-certs.ts", "create missing ones, renew those that expire soon, keep the rest"],
    ["bun scripts/generate-certs.ts --renew-before 90d --days 365", "renew earlier than usual"],
    ["bun scripts/generate-certs.ts --force && bun scripts/deploy.ts", "new keys everywhere, rolled out"],
  ],
  flags: {
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
      description: "renew certificates that expire within this time, for example 30d",
    },
    force: { type: "boolean", description: "reissue every certificate, under the same CA" },
    "new-ca": {
      type: "boolean",
      description: "replace the CA too; then deploy with --new-ca: all brokers restart at once",
    },
    "intake-host": {
      type: "string",
      valueName: "NAME,…",
      description:
        'names and IP addresses under which senders outside the cluster reach the intake, in the producer\'s certificate; "" for none (default: those that it has)',
    },
    namespace: NAMESPACE_FLAG,
    dir: {
      type: "string",
      valueName: "DIR",
      description:
        "folder of the certificates (default: certs in the project, with a folder for each namespace but conveyor)",
    },
  },
  notes: ["The folder contains private keys, including the CA's. Git ignores it; keep it out of backups too."],
  async run({ flags, report }) {
    const folder = flags.dir === undefined ? certificateFolder() : resolve(flags.dir);
    const statuses = await report.step(`certificates in ${relative(process.cwd(), folder) || "."}`, async (step) => {
      const named = flags["intake-host"];
      const hosts = named === undefined ? await storedIntakeHosts(folder) : named === "" ? [] : parseHosts(named);
      const made = await ensureCertificates(folder, {
        identities: identitiesFor(hosts),
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
  },
});

if (import.meta.main) await runCommand(command);
