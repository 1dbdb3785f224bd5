/** The senders of the intake: their list in the Secret producer-intake, and what the running producers use of it. */
import {
  readSenders,
  renderSenders,
  revisionOf,
  SENDERS_FILE,
  SENDERS_PATH,
  SENDERS_SECRET,
  type SenderEntry,
  type SendersInUse,
} from "../../services/protocol/senders.ts";
import { EXIT, OperatorError } from "../cli/errors.ts";
import { waitFor } from "../cli/wait.ts";
import { type Cluster, type KubernetesObject, NAMESPACE } from "../cluster/cluster.ts";
import { readSecret } from "../cluster/secret-values.ts";
import { getVerified } from "./pod-metrics.ts";

const OPS_PORT = 9464;
/** The kubelet replaces the files within a minute and a half at worst, and a producer reads them every five seconds. */
const IN_USE_LIMIT_MS = 180_000;
const IN_USE_INTERVAL_MS = 1000;
/** A changed annotation makes the kubelet read the pod's volumes at once. */
const REVISION_ANNOTATION = "conveyor.dev/senders-revision";
const DEPLOY_HINT = "bun scripts/deploy.ts";

type Secret = KubernetesObject & { data?: Record<string, string> };

export interface SenderList {
  senders: SenderEntry[];
  /** As it was read, with its version: a change fails when somebody else has changed it since. */
  secret: Secret;
}

/** @throws OperatorError (exit 3) without the Secret, OperatorError for a list that breaks a rule */
export async function readSenderList(cluster: Cluster): Promise<SenderList> {
  const secret = await cluster.get<Secret>("secret", SENDERS_SECRET);
  if (!secret) {
    throw new OperatorError(`there is no Secret ${SENDERS_SECRET}: the pipeline is not deployed here`, {
      exitCode: EXIT.precondition,
      hint: DEPLOY_HINT,
    });
  }
  const text = Buffer.from(secret.data?.[SENDERS_FILE] ?? "", "base64").toString("utf8");
  try {
    return { senders: readSenders(text), secret };
  } catch (error) {
    throw new OperatorError(`Secret ${SENDERS_SECRET}: ${(error as Error).message}`, {
      hint: `correct the entry ${SENDERS_FILE} by hand: docs/operations.md, "Tokens of senders"`,
    });
  }
}

/**
 * Writes the list; plain tokens become digests. Returns its revision, as the producers report it.
 * @throws OperatorError when the Secret was changed since it was read
 */
export async function writeSenderList(
  cluster: Cluster,
  { senders, secret }: SenderList,
  signal: AbortSignal,
): Promise<string> {
  const text = senders.length === 0 ? "" : renderSenders(senders);
  const { [SENDERS_FILE]: _, ...others } = secret.data ?? {};
  const data = text === "" ? others : { ...others, [SENDERS_FILE]: Buffer.from(text).toString("base64") };
  const input = JSON.stringify({ ...secret, data });
  const { exitCode, stderr } = await cluster.kubectl(["replace", "-f", "-"], { input, signal, allowFailure: true });
  if (exitCode === 0) return revisionOf(text);
  const isConflict = /the object has been modified/.test(stderr);
  throw new OperatorError(`Secret ${SENDERS_SECRET} was not changed: ${stderr.trim()}`, {
    hint: isConflict ? "somebody changed it meanwhile: run the command again" : undefined,
  });
}

/**
 * Waits until every running producer uses the list.
 * @returns the number of producers
 * @throws OperatorError (exit 4) when one does not use it in time, with what it reports
 */
export async function awaitSenders(
  cluster: Cluster,
  revision: string,
  { signal, onState }: { signal: AbortSignal; onState: (state: string) => void },
): Promise<number> {
  const selector = ["-l", "app.kubernetes.io/name=producer", "-n", NAMESPACE];
  // Without it the list is used as well, a minute later.
  const annotate = ["annotate", "pods", ...selector, `${REVISION_ANNOTATION}=${revision}`, "--overwrite"];
  await cluster.kubectl(annotate, { signal, allowFailure: true });
  const ca = (await readSecret(cluster, "producer-tls"))["ca.crt"] ?? "";
  /** What one producer still waits for; undefined: it uses the list. @throws OldServices */
  const stateOf = async (pod: string): Promise<string | undefined> => {
    await using forward = await cluster.portForward(`pod/${pod}`, OPS_PORT, NAMESPACE);
    const { status, body } = await getVerified(forward.port, SENDERS_PATH, ca, `producer.${NAMESPACE}.svc`, signal);
    if (status === 404) throw new OldServices();
    if (status !== 200) return `${pod} answered ${status}`;
    const inUse = JSON.parse(body) as SendersInUse;
    if (inUse.revision === revision) return undefined;
    return inUse.problem === undefined ? `${pod} uses the list before` : `${pod} refuses a list: ${inUse.problem}`;
  };
  const outcome = await waitFor<number | OldServices>(
    async () => {
      const pods = (await cluster.runningPods("producer")).map(({ metadata }) => metadata.name);
      try {
        const states = await Promise.all(pods.map(stateOf));
        const state = states.find((one) => one !== undefined);
        return state === undefined ? { done: true, value: pods.length } : { done: false, state };
      } catch (error) {
        if (error instanceof OldServices) return { done: true, value: error };
        throw error;
      }
    },
    {
      what: "every producer to use the list of senders",
      limitMs: IN_USE_LIMIT_MS,
      intervalMs: IN_USE_INTERVAL_MS,
      signal,
      onState,
      hint: "bun scripts/logs.ts --service producer --grep intake_senders --since 10m",
    },
  );
  if (typeof outcome === "number") return outcome;
  throw new OperatorError(
    "the deployed producers do not report which list they use: they are older than this command",
    {
      exitCode: EXIT.precondition,
      hint: DEPLOY_HINT,
    },
  );
}

/** The image of the deployed services is older than this command. */
class OldServices extends Error {}
