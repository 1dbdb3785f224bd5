/** The version of the project that a record was made with. */
import { capture } from "./process.ts";

export interface Version {
  commit: string;
  /** Number of files with uncommitted changes, without outputs/. */
  changed_files: number;
}

/** The commit that the project's folder is at, and how many files differ from it. */
export async function versionOf(folder: string): Promise<Version> {
  const head = await capture(["git", "rev-parse", "HEAD"], { cwd: folder });
  if (head.exitCode !== 0) return { commit: "unknown", changed_files: 0 };
  const status = await capture(["git", "status", "--porcelain", "--", ".", ":!outputs"], { cwd: folder });
  return { commit: head.stdout.trim(), changed_files: status.stdout.split("\n").filter(Boolean).length };
}
