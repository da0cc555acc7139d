import type { ServerPressure, Session } from "../engines/engine.ts";
import { Notifier, sleep } from "../lib/wait.ts";

export interface ThrottleLimits {
  readonly maxThreadsRunning: number | undefined;
  readonly historyList: number | undefined;
}

const askEveryMs = 500;

/**
 * Holds the copy back while a server is under pressure. Only the start of new chunks waits: a chunk in flight holds
 * dirty keys and is finished, and the tail is never held back, or the log could be purged under it.
 */
export class Throttle {
  readonly #sessions: readonly Session[];
  readonly #limits: ThrottleLimits;
  readonly #changed = new Notifier();
  #reason: string | undefined;

  constructor(sessions: readonly Session[], limits: ThrottleLimits) {
    this.#sessions = sessions;
    this.#limits = limits;
  }

  /** Why the copy waits; undefined while it does not. */
  get reason(): string | undefined {
    return this.#reason;
  }

  /** Asks the servers until aborted. Without a limit it asks nothing. */
  async run(signal: AbortSignal): Promise<void> {
    if (this.#limits.maxThreadsRunning === undefined && this.#limits.historyList === undefined) return;
    while (!signal.aborted) {
      const reasons: string[] = [];
      for (const session of this.#sessions) {
        reasons.push(...pressureReasons(session.server.shard, await session.pressure(), this.#limits));
      }
      this.#reason = reasons[0];
      this.#changed.notify();
      await sleep(askEveryMs, signal);
    }
  }

  /** Returns when a new chunk may begin. */
  async wait(signal: AbortSignal): Promise<void> {
    while (this.#reason !== undefined) await this.#changed.wait(signal);
  }
}

/** Names server, figure and limit, as the operator knows them (gh-ost's status line does the same). */
export function pressureReasons(shard: string, pressure: ServerPressure, limits: ThrottleLimits): string[] {
  const reasons: string[] = [];
  const { maxThreadsRunning, historyList } = limits;
  if (maxThreadsRunning !== undefined && pressure.threadsRunning > maxThreadsRunning) {
    reasons.push(`${shard} threads running ${pressure.threadsRunning} > ${maxThreadsRunning}`);
  }
  if (historyList !== undefined && pressure.historyList > historyList) {
    reasons.push(`${shard} history list ${pressure.historyList} > ${historyList}`);
  }
  return reasons;
}
