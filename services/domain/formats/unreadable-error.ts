/** An input that cannot be read as telemetry, and what its sender can do. */
export class UnreadableError extends Error {
  constructor(
    message: string,
    /** The next step. */
    readonly hint: string,
  ) {
    super(message);
    this.name = "UnreadableError";
  }
}
