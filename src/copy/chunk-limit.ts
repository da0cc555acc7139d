import { ShardliftError } from "../errors/error.ts";
import { abortable } from "../lib/wait.ts";

/**
 * A chunk in flight keeps its dirty keys waiting and the checkpoint from moving (rule 2), so it may not last for ever: a
 * server that has stopped answering without closing the connection would otherwise hold the job in silence.
 */
const chunkLimitMs = 10 * 60_000;

/**
 * Throws E_TIMEOUT when the chunk takes longer. The job stops then, its sessions are closed, and the servers roll the
 * chunk back; the next run copies it again, beginning with small chunks. Until then the load behind it is left alone.
 */
export async function withinChunkLimit<T>(
  load: Promise<T>,
  table: string,
  limitMs = chunkLimitMs,
): Promise<T> {
  const limit = AbortSignal.timeout(limitMs);
  try {
    return await abortable(load, limit);
  } catch (error) {
    if (error !== limit.reason) throw error;
    throw new ShardliftError(
      "E_TIMEOUT",
      `a chunk of table ${table} was not copied within ${limitMs / 60_000} minutes`,
      { next: "look for a lock or a server that hangs, then run `shardlift resume`", retryable: true },
    );
  }
}
