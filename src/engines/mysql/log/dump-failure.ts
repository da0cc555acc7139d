import { ShardliftError } from "../../../errors/error.ts";
import { errnoOf, isConnectionLost, isDenied } from "../errors.ts";
import { DumpEnded } from "./dump-stream.ts";

/**
 * What a failed dump means: `undefined` when the same dump may be tried again, else the error that ends the reading.
 * Whatever is not known to be passing is final (DESIGN rule 10). Errors are told apart by number and, for 1236, which
 * stands for a dozen causes, by the server's message.
 */
export function finalFailure(error: unknown): ShardliftError | undefined {
  if (error instanceof ShardliftError) return error.retryable ? undefined : error;
  const message = error instanceof Error ? error.message : String(error);
  const errno = errnoOf(error);
  if (errno === 1236) return fatalReadingFailure(message, error);
  if (error instanceof DumpEnded || isConnectionLost(error) || passingErrors.has(errno ?? 0))
    return undefined;
  if (isDenied(error)) {
    return new ShardliftError("E_CONNECT", `the account may not read the log: ${message}`, {
      next: "Grant REPLICATION SLAVE to the account of the shard, then run `shardlift resume`.",
      cause: error,
    });
  }
  return new ShardliftError("E_LOG_UNREADABLE", `the source refuses to send its log: ${message}`, {
    cause: error,
  });
}

/**
 * 1040/1203/1226 too many connections, 1053 shutdown, 1077/1079 signals, 1080 forced close, 1158-1161 network,
 * 1184 aborted, 1317 killed, 3169 session killed.
 */
const passingErrors: ReadonlySet<number> = new Set([
  1040, 1053, 1077, 1079, 1080, 1158, 1159, 1160, 1161, 1184, 1203, 1226, 1317, 3169,
]);

function fatalReadingFailure(message: string, cause: unknown): ShardliftError | undefined {
  // Another reader came with the same server id, and ours was ended; the next try has another id.
  if (/same server_uuid|same server_id/i.test(message)) return undefined;
  if (/purged|could not find GTID state requested/i.test(message)) {
    return new ShardliftError("E_LOG_LOST", `the source has purged the log that the job needs: ${message}`, {
      cause,
    });
  }
  if (/not in the master's binlog|diverged|has more GTIDs/i.test(message)) {
    return new ShardliftError("E_LOG_FOREIGN", `the source does not hold what was read before: ${message}`, {
      cause,
    });
  }
  return new ShardliftError("E_LOG_UNREADABLE", `the source can not send its log: ${message}`, { cause });
}
