/** Where the local cluster and the things built for it live: the user's cache and state folders (XDG base directories). */
import { homedir } from "node:os";
import { join } from "node:path";

/** Things that can be made again: built parts, assembled images. `rm -rf` of it costs only time. */
export const cacheFolder = (): string => join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "conveyor");

/** What a running or stopped local cluster keeps: keys, database, volumes, logs. */
export const stateFolder = (): string =>
  join(process.env.XDG_STATE_HOME || join(homedir(), ".local", "state"), "conveyor", "local-cluster");
