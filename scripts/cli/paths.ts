/** Folders of the local cluster and of what is built for it, in the user's cache and state folders (XDG base directories). */
import { homedir } from "node:os";
import { join } from "node:path";

/** Built parts and assembled images: everything in it can be rebuilt. */
export const cacheFolder = (): string => join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "conveyor");

/** What a running or stopped local cluster keeps: keys, database, volumes, logs. */
export const stateFolder = (): string =>
  join(process.env.XDG_STATE_HOME || join(homedir(), ".local", "state"), "conveyor", "local-cluster");
