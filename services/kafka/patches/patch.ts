/** What a patch of kafkajs consists of. Each file beside this one holds one; index.ts installs them. */

/** A member of kafkajs that a patch replaces or uses; index.ts checks that this version has it. */
export interface Member {
  /** `Connection.disconnect` */
  name: string;
  exists(): boolean;
}

export interface Patch {
  /** Name of the file and of its test. */
  id: string;
  members: readonly Member[];
  /** Replaces the members; called once per process. */
  install(): void;
}

export function method(owner: { name: string; prototype: object }, key: PropertyKey): Member {
  return {
    name: `${owner.name}.${typeof key === "symbol" ? key.description : String(key)}`,
    exists: () => typeof Reflect.get(owner.prototype, key) === "function",
  };
}
