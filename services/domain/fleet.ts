/**
 * A simulated fleet of conveyor belts. Values depend on seed, conveyor and seq only, so the same seed produces the same
 * fleet. The physics is simple but coherent, for readable dashboards: load varies slowly, a loaded motor warms up and
 * cools slowly, vibration follows speed and grows during a fault, an idle belt stops and empties.
 */
import { EVENT_VERSION, type State, type TelemetryEvent } from "./event.ts";

/** 32-bit hash of a text (FNV-1a), so that similar conveyor names have different seeds. */
function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  }
  return hash >>> 0;
}

/** Uniform numbers in [0, 1) from a 32-bit state (mulberry32): small, fast, good enough for sensor noise. */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const AMBIENT_C = 22;
/** Probability per event of each transition: a belt runs long, faults are rare and short. */
const TRANSITIONS: Record<State, readonly (readonly [State, number])[]> = {
  running: [
    ["idle", 0.0008],
    ["stopped", 0.0002],
    ["fault", 0.00005],
  ],
  idle: [
    ["running", 0.01],
    ["stopped", 0.001],
  ],
  stopped: [["running", 0.006]],
  fault: [["stopped", 0.01]],
};

const round = (value: number, digits: 10 | 100 | 1000) => Math.round(value * digits) / digits;

export class Conveyor {
  #seq = 0;
  #state: State = "running";
  #speed: number;
  #load: number;
  #temp = AMBIENT_C;
  #wear = 0;
  readonly #ratedSpeed: number;
  readonly #ratedLoad: number;
  readonly #random: () => number;

  constructor(
    readonly name: string,
    readonly run: string,
    seed: number,
  ) {
    this.#random = randomFrom(hash32(`${seed}/${name}`));
    this.#ratedSpeed = 0.8 + 1.7 * this.#random();
    this.#ratedLoad = 150 + 450 * this.#random();
    this.#speed = this.#ratedSpeed;
    this.#load = this.#ratedLoad * this.#random();
    this.#temp = AMBIENT_C + 25 * this.#random();
  }

  get nextSeq(): number {
    return this.#seq;
  }

  next(nowMs: number): TelemetryEvent {
    const random = this.#random;
    const draw = random();
    let threshold = 0;
    for (const [state, probability] of TRANSITIONS[this.#state]) {
      threshold += probability;
      if (draw < threshold) {
        this.#state = state;
        break;
      }
    }
    const moving = this.#state === "running";
    // Inertia: a belt takes several events to speed up and to stop.
    this.#speed += ((moving ? this.#ratedSpeed : 0) - this.#speed) * 0.15;
    const wander = (random() - 0.5) * 0.06 * this.#ratedLoad;
    const pull = moving ? (0.6 * this.#ratedLoad - this.#load) * 0.01 : -this.#load * 0.05;
    this.#load = Math.min(Math.max(this.#load + wander * (moving ? 1 : 0) + pull, 0), 1.4 * this.#ratedLoad);
    const heat = (this.#speed / this.#ratedSpeed) * (18 + 32 * (this.#load / this.#ratedLoad));
    this.#temp += (AMBIENT_C + heat - this.#temp) * 0.01 + (random() - 0.5) * 0.1;
    this.#wear = this.#state === "fault" ? Math.min(this.#wear + 0.02, 1) : this.#wear * 0.995;
    const vibration = 0.3 + 1.4 * this.#speed + 6 * this.#wear + 0.4 * random();
    return {
      v: EVENT_VERSION,
      conveyor: this.name,
      run: this.run,
      seq: this.#seq++,
      ts: nowMs,
      speed_mps: round(Math.abs(this.#speed) < 0.005 ? 0 : this.#speed, 1000),
      load_kg: round(this.#load, 10),
      motor_temp_c: round(this.#temp, 100),
      vibration_mm_s: round(vibration, 100),
      state: this.#state,
    };
  }
}

/** The conveyors of one producer pod: belt-<ordinal>-1 to belt-<ordinal>-<count>. */
export class Fleet {
  readonly conveyors: readonly Conveyor[];
  #turn = 0;

  constructor(options: { ordinal: number; count: number; run: string; seed: number }) {
    this.conveyors = Array.from(
      { length: options.count },
      (_, index) => new Conveyor(`belt-${options.ordinal}-${index + 1}`, options.run, options.seed),
    );
  }

  /** The next event of the fleet; conveyors take turns. */
  next(nowMs: number): TelemetryEvent {
    const conveyor = this.conveyors[this.#turn]!;
    this.#turn = (this.#turn + 1) % this.conveyors.length;
    return conveyor.next(nowMs);
  }
}
