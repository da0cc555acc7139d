import { ShardliftError } from "../../errors/error.ts";
import { errnoOf, isConnectionLost } from "./errors.ts";

/**
 * What the row path throws when a server or a connection fails. A lost connection is retryable: the caller takes the
 * rows again, after it has read the saved progress. An answer of the server that is not understood is not.
 */
export function readError(shard: string, table: string, error: unknown): ShardliftError {
  return serverError(`reading ${table} at shard ${shard}`, error);
}

export function writeError(shard: string, table: string, error: unknown): ShardliftError {
  return serverError(`writing ${table} at shard ${shard}`, error);
}

function serverError(what: string, error: unknown): ShardliftError {
  if (error instanceof ShardliftError) return error;
  const message = error instanceof Error ? error.message : String(error);
  if (isConnectionLost(error)) {
    return new ShardliftError("E_CONNECT", `${what}: ${message}`, { cause: error, retryable: true });
  }
  const errno = errnoOf(error);
  const shown = errno === undefined ? message : `${message} (error ${errno})`;
  return new ShardliftError("E_SERVER_REFUSED", `${what}: ${shown}`, { cause: error });
}
