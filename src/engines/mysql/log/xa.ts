import { ShardliftError } from "../../../errors/error.ts";
import { Cursor, headerLength, type LogEvent } from "./event.ts";
import type { KeySink } from "./moved-table.ts";

/**
 * XA transactions: the log has their changes at PREPARE and the verdict in a later group, maybe days later, and a
 * rolled-back one looks like a committed one (facts/hard-cases, 0.3). Their keys are held by xid until the verdict.
 */

/** One text per transaction: `gtrid,bqual,format` in hex. */
export function xidOf(gtrid: Buffer, bqual: Buffer, format: number): string {
  return `${gtrid.toString("hex")},${bqual.toString("hex")},${format}`;
}

/** XA_PREPARE ends a group; `onePhase` means that it commits at once. */
export function readXaPrepare(
  event: LogEvent,
  end: number,
): { readonly xid: string; readonly onePhase: boolean } {
  const cursor = new Cursor(event.buffer, event.start + headerLength, end);
  const onePhase = cursor.uint(1) !== 0;
  const format = cursor.uint(4);
  const gtridLength = cursor.uint(4);
  const bqualLength = cursor.uint(4);
  return { xid: xidOf(cursor.bytes(gtridLength), cursor.bytes(bqualLength), format), onePhase };
}

/** The server writes every xid as `X'gtrid',X'bqual',format`. */
export function parseXid(text: string): string | undefined {
  const match = /^X'([0-9a-f]*)',X'([0-9a-f]*)',(\d+)$/i.exec(text.replaceAll(/\s/g, ""));
  if (match === null) return undefined;
  const [, gtrid = "", bqual = "", format = ""] = match;
  return `${gtrid.toLowerCase()},${bqual.toLowerCase()},${format}`;
}

/** Keys that wait for a verdict. Bounded: nothing can be dropped here, so beyond the bound the job stops. */
export class HeldKeys implements KeySink {
  readonly #limit: number;
  readonly #held: Map<string, Map<string, string[]>>;
  #open: Map<string, string[]> | undefined;
  #count: number;

  constructor(limit: number) {
    this.#limit = limit;
    this.#held = new Map();
    this.#open = undefined;
    this.#count = 0;
  }

  /** The keys that follow belong to the XA transaction that is being read. */
  begin(): void {
    this.#open = new Map();
  }

  get isOpen(): boolean {
    return this.#open !== undefined;
  }

  add(table: string, key: string): void {
    const keys = this.#open?.get(table);
    if (keys === undefined) this.#open?.set(table, [key]);
    else keys.push(key);
    this.#count += 1;
    if (this.#count > this.#limit) {
      throw new ShardliftError(
        "E_XA_TOO_LARGE",
        `undecided XA transactions hold more than ${this.#limit} keys`,
      );
    }
  }

  /** Keeps what was read until the verdict. */
  hold(xid: string): void {
    this.#held.set(xid, this.#open ?? new Map());
    this.#open = undefined;
  }

  /** Hands over what was read for an XA transaction that commits without a prepare. */
  release(sink: KeySink): void {
    this.#deliver(this.#open, sink);
    this.#open = undefined;
  }

  discard(): void {
    this.#forget(this.#open);
    this.#open = undefined;
  }

  has(xid: string): boolean {
    return this.#held.has(xid);
  }

  /** The verdict: the keys are dirty again, or nothing has happened. */
  decide(xid: string, verdict: "commit" | "rollback", sink: KeySink): void {
    const keys = this.#held.get(xid);
    this.#held.delete(xid);
    if (verdict === "commit") this.#deliver(keys, sink);
    else this.#forget(keys);
  }

  #deliver(held: Map<string, string[]> | undefined, sink: KeySink): void {
    this.#forget(held);
    for (const [table, keys] of held ?? []) for (const key of keys) sink.add(table, key);
  }

  #forget(held: Map<string, string[]> | undefined): void {
    for (const keys of held?.values() ?? []) this.#count -= keys.length;
  }
}
