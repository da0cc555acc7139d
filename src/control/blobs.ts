import { createHash } from "node:crypto";
import { ShardliftError } from "../errors/error.ts";
import { blobKey, blobPrefix } from "./keys.ts";
import { settle } from "./settle.ts";
import type { ControlStore } from "./store.ts";

/**
 * Contents that are larger than a value may be (plans), by the hash of their bytes: parts first, then whoever needs
 * them writes the hash into a small key. Writing the same bytes again changes nothing; half-written ones are completed
 * by it. What is read is checked against its name.
 */
const partBytes = 128 * 1024;
const writeMs = 5000;

/** Returns the content's SHA-256 in hex. */
export async function putBlob(store: ControlStore, bytes: Uint8Array): Promise<string> {
  const hash = sha256(bytes);
  const count = Math.max(1, Math.ceil(bytes.byteLength / partBytes));
  for (let index = 0; index < count; index++) {
    const key = blobKey(hash, index);
    const part = bytes.subarray(index * partBytes, (index + 1) * partBytes);
    const same = (value: Uint8Array | undefined): boolean =>
      value !== undefined && Buffer.compare(value, part) === 0;
    const settled = await settle(
      store,
      // The value is its own stamp: who wrote it does not matter.
      {
        guards: [{ key, rev: 0 }],
        ops: [{ put: key, value: part }],
        witness: key,
        isMine: (entry) => same(entry?.value),
      },
      writeMs,
    );
    if (settled.kind === "unknown") throw settled.cause;
    if (settled.kind === "lost" && !same(settled.current[0]?.value)) throw damaged(hash);
  }
  return hash;
}

/** Undefined when there is no such content; throws when it is not whole. */
export async function getBlob(store: ControlStore, hash: string): Promise<Uint8Array | undefined> {
  const { entries } = await store.list(blobPrefix(hash));
  if (entries.length === 0) return undefined;
  const bytes = Buffer.concat(entries.map((entry) => entry.value));
  if (sha256(bytes) !== hash) throw damaged(hash);
  return bytes;
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function damaged(hash: string): ShardliftError {
  return new ShardliftError("E_CONTROL_STORE", `content ${hash} in the control store is not whole`);
}
