import type { KeyId } from "../engines/engine.ts";
import { invariant } from "../errors/error.ts";

/**
 * The dirty keys of one table: primary keys seen in the source's log whose current state is not known to be on the
 * target.
 *
 * Invariants (DESIGN rules 4 and 7):
 * - a key in a batch that is not yet committed can not be taken again, or the older write could land last;
 * - a key that is marked again while it is taken stays dirty after the batch;
 * - `oldest()` is the number of the oldest log batch that is not wholly applied: no checkpoint passes it.
 */
export class DirtyKeys {
  /** Key → the log batch from which on it is unresolved. */
  readonly #dirty = new Map<KeyId, number>();
  readonly #taken = new Map<KeyId, number>();
  readonly #watches = new Set<DirtyWatch>();

  get size(): number {
    return this.#dirty.size + this.#taken.size;
  }

  mark(key: KeyId, batch: number): void {
    const since = this.#dirty.get(key);
    if (since === undefined || batch < since) this.#dirty.set(key, batch);
    for (const watch of this.#watches) watch.see(key);
  }

  has(key: KeyId): boolean {
    return this.#dirty.has(key) || this.#taken.has(key);
  }

  /** Takes up to `limit` keys that `eligible` lets pass; they count as unresolved until `resolve` or `putBack`. */
  take(limit: number, eligible: (key: KeyId) => boolean): KeyId[] {
    const keys: KeyId[] = [];
    for (const [key, batch] of this.#dirty) {
      if (keys.length >= limit) break;
      if (this.#taken.has(key) || !eligible(key)) continue;
      keys.push(key);
      this.#taken.set(key, batch);
    }
    for (const key of keys) this.#dirty.delete(key);
    return keys;
  }

  /** The taken keys are on the target, committed. */
  resolve(keys: readonly KeyId[]): void {
    for (const key of keys) invariant(this.#taken.delete(key), "a key was resolved that was not taken");
  }

  /** The batch was not committed: the keys are dirty again, from where they were. */
  putBack(keys: readonly KeyId[]): void {
    for (const key of keys) {
      const batch = this.#taken.get(key);
      invariant(batch !== undefined, "a key was put back that was not taken");
      this.#taken.delete(key);
      const since = this.#dirty.get(key);
      if (since === undefined || batch < since) this.#dirty.set(key, batch);
    }
  }

  /** Forgets keys whose interval is yet to be read. */
  drop(keys: Iterable<KeyId>): void {
    for (const key of keys) this.#dirty.delete(key);
  }

  /** All keys that are dirty and not taken. */
  waiting(): IterableIterator<KeyId> {
    return this.#dirty.keys();
  }

  /** The oldest unresolved log batch, or undefined when nothing is dirty. */
  oldest(): number | undefined {
    let oldest: number | undefined;
    for (const batches of [this.#dirty.values(), this.#taken.values()]) {
      for (const batch of batches) if (oldest === undefined || batch < oldest) oldest = batch;
    }
    return oldest;
  }

  /** Remembers which of the keys are marked from now on; dispose it when done. */
  watch(keys: Iterable<KeyId>): DirtyWatch {
    const watch = new DirtyWatch(new Set(keys), () => this.#watches.delete(watch));
    this.#watches.add(watch);
    return watch;
  }
}

/** Which keys of a set were marked dirty since the watch began. */
export class DirtyWatch implements Disposable {
  readonly #keys: ReadonlySet<KeyId>;
  readonly #seen = new Set<KeyId>();
  readonly #end: () => void;

  constructor(keys: ReadonlySet<KeyId>, end: () => void) {
    this.#keys = keys;
    this.#end = end;
  }

  see(key: KeyId): void {
    if (this.#keys.has(key)) this.#seen.add(key);
  }

  touched(key: KeyId): boolean {
    return this.#seen.has(key);
  }

  [Symbol.dispose](): void {
    this.#end();
  }
}
