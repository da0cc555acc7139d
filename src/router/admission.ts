import { ShardliftError } from "../errors/error.ts";
import type { RoutingMap } from "../model/routing-map.ts";
import type { LiveIntent } from "../routing/intent.ts";
import type { Need, RouteView } from "./view.ts";

/**
 * Who may begin now. Writes to a slice that is about to move wait here; what has begun runs to its end. Holding a
 * statement of a begun transaction instead would deadlock with the gate (facts: pitfalls.md 24).
 *
 * Invariant: once `isDrained(intent)` was true, no work begins that touches the intent's slice until the view lets it.
 * That rests on `begin` being synchronous: it looks and registers without an await in between.
 */
export class Admission {
  readonly #view: RouteView;
  readonly #clock: () => number;
  readonly #maxWaiting: number;
  readonly #running = new Set<Permit>();
  #waiting = 0;
  /** Called after each end of work, so that an intent can be acknowledged without polling. */
  onEnd: () => void = () => undefined;

  constructor(view: RouteView, options: { readonly maxWaiting: number; readonly clock: () => number }) {
    this.#view = view;
    this.#maxWaiting = options.maxWaiting;
    this.#clock = options.clock;
  }

  get running(): number {
    return this.#running.size;
  }

  get waiting(): number {
    return this.#waiting;
  }

  /** Waits until the work may begin. It may be held again before it has its connection: `begin` looks once more. */
  async wait(need: Need, limit: Limit): Promise<void> {
    if (this.#obstacle(need) === undefined) return;
    if (this.#waiting >= this.#maxWaiting) {
      throw new ShardliftError("E_HOLD_FULL", `${this.#waiting} statements are waiting already`, {
        retryable: true,
      });
    }
    this.#waiting += 1;
    try {
      for (let obstacle = this.#obstacle(need); obstacle !== undefined; obstacle = this.#obstacle(need)) {
        const now = this.#clock();
        if (now >= limit.until) throw timeout(obstacle, this.#view);
        const next = obstacle === "untrusted" ? limit.until : Math.min(limit.until, obstacle.letGoAt);
        // One millisecond more: a timer may fire a little early, and would then wake for nothing.
        await this.#view.changed.wait(limit.signal, next - now + 1);
      }
    } finally {
      this.#waiting -= 1;
    }
  }

  /** Registers work at the given owners; undefined when it is held by now or the owners have changed. */
  begin(need: Need, shards: readonly string[]): Permit | undefined {
    if (this.#obstacle(need) !== undefined) return undefined;
    const owners = this.#view.owners(need);
    if (owners.length !== shards.length || owners.some((owner, index) => owner !== shards[index]))
      return undefined;
    const permit = new Permit(need, this.#view.map, (done) => {
      if (this.#running.delete(done)) this.onEnd();
    });
    this.#running.add(permit);
    return permit;
  }

  /** Whether no begun work of this router can still write to the intent's slice. */
  isDrained(intent: LiveIntent): boolean {
    for (const { need } of this.#running) if (this.#view.touches(intent, need)) return false;
    return true;
  }

  #obstacle(need: Need): LiveIntent | "untrusted" | undefined {
    const now = this.#clock();
    return this.#view.isTrusted(now) ? this.#view.heldBy(need, now) : "untrusted";
  }
}

/** Begun work. `end` must be called, once the server can do nothing more for it. Idempotent. */
export class Permit implements Disposable {
  readonly need: Need;
  /** The map that the owners were taken from. */
  readonly map: RoutingMap;
  readonly #onEnd: (permit: Permit) => void;

  constructor(need: Need, map: RoutingMap, onEnd: (permit: Permit) => void) {
    this.need = need;
    this.map = map;
    this.#onEnd = onEnd;
  }

  [Symbol.dispose](): void {
    this.#onEnd(this);
  }
}

/** How long a call may wait, by `performance.now()`, and what ends it earlier. */
export interface Limit {
  readonly until: number;
  readonly signal: AbortSignal;
}

function timeout(obstacle: LiveIntent | "untrusted", view: RouteView): ShardliftError {
  const why =
    obstacle === "untrusted"
      ? view.leaseError().message
      : `job ${obstacle.job} holds writes to the slice while it moves from ${obstacle.fromShard} to ${obstacle.toShard}`;
  return new ShardliftError("E_HOLD_TIMEOUT", `the write could not begin in time: ${why}`, {
    retryable: true,
  });
}
