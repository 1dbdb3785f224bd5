/** The bodies of requests, bounded one by one and together. */

/** About 18,000 events; larger loads belong in a file. Also the bound after decompression. */
export const MAX_BODY_BYTES = 4 * 1024 * 1024;
/** 16 bodies of the greatest size, a sixth of the pod's memory; a request beyond them is repeated by its sender. */
const MAX_OPEN_BODY_BYTES = 16 * MAX_BODY_BYTES;

/** Counts the bytes that open requests have received: a request that stalls holds no room for the rest of its body. */
export class OpenBodies {
  #bytes = 0;

  /** False when there is no room for them. */
  take(bytes: number): boolean {
    if (this.#bytes + bytes > MAX_OPEN_BODY_BYTES) return false;
    this.#bytes += bytes;
    return true;
  }

  release(bytes: number): void {
    this.#bytes -= bytes;
  }

  /** Room for the body of one request; disposing it releases what it has taken. */
  open(): { take(bytes: number): boolean } & Disposable {
    let held = 0;
    return {
      take: (bytes) => {
        if (!this.take(bytes)) return false;
        held += bytes;
        return true;
      },
      [Symbol.dispose]: () => this.release(held),
    };
  }
}

/** Length of the body as the request announces it; 0 when it does not. */
export const announcedBytes = (request: Request): number => Number(request.headers.get("content-length")) || 0;

/**
 * The body; "incomplete": the connection ended before it, "too_large", "no_room": open requests hold all memory for bodies.
 * `charge` is called with the number of bytes received so far.
 */
export async function readBody(
  request: Request,
  take: (bytes: number) => boolean,
  charge: (receivedBytes: number) => void,
): Promise<Uint8Array | "incomplete" | "too_large" | "no_room"> {
  if (announcedBytes(request) > MAX_BODY_BYTES) return "too_large";
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of request.body ?? []) {
      length += chunk.length;
      charge(length);
      if (length > MAX_BODY_BYTES) return "too_large";
      if (!take(chunk.length)) return "no_room";
      chunks.push(chunk);
    }
  } catch {
    return "incomplete";
  }
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
}
