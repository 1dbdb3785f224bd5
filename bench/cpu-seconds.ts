/** CPU time of a process, from Linux. */
import { readFile } from "node:fs/promises";

/** Linux reports CPU time in ticks; their number is fixed by its interface to user space. */
const TICKS_PER_SECOND = 100;

/** User and system time of a process since its start. */
export async function cpuSeconds(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, "utf8")).split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}
