import { ShardliftError } from "../../errors/error.ts";
import { sleep } from "../../lib/wait.ts";
import { isConnectionLost } from "./errors.ts";

/**
 * Runs `body` again while its connection is lost or the server is away. Only for what may run twice without harm:
 * reads, markers, writes of one and the same state. Bounded, so that a server that stays away ends the job
 * (resumable); an abort ends the waiting at once.
 * `isPassing`: further errors after which the body may simply be run again.
 */
export async function reconnecting<T>(
  signal: AbortSignal,
  body: () => Promise<T>,
  isPassing: (error: unknown) => boolean = () => false,
): Promise<T> {
  for (const pauseMs of pausesMs) {
    try {
      return await body();
    } catch (error) {
      signal.throwIfAborted();
      if (!mayReconnect(error) && !isPassing(error)) throw error;
    }
    await sleep(pauseMs, signal);
  }
  return await body();
}

/** An idle connection that was ended needs no pause; a restart with crash recovery takes some seconds. */
const pausesMs: readonly number[] = [0, 250, 1000, 2000, 4000, 8000, 16_000];

function mayReconnect(error: unknown): boolean {
  if (error instanceof ShardliftError) return error.code === "E_CONNECT" && error.retryable;
  return isConnectionLost(error);
}
