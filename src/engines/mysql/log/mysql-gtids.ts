import { GtidSet } from "@vlasky/zongji";
import { invariant } from "../../../errors/error.ts";
import type { Position } from "../../engine.ts";
import { Cursor, eventType, headerLength, type LogEvent } from "./event.ts";
import type { GroupStart, GtidTracker } from "./gtid-tracker.ts";

/**
 * MySQL positions are GTID sets, so an undecided XA transaction is simply a hole in the set: the server sends it again
 * and nothing else. GtidSet does the algebra; runs of neighbours are collected first, since a set is rebuilt at each
 * change and a batch holds hundreds of transactions.
 */
export class MysqlGtids implements GtidTracker {
  #set: string;
  /** Source → neighbouring transactions that are not yet in the set. */
  readonly #runs: Map<string, { readonly first: bigint; last: bigint }>;
  #closedRuns: string[];
  /** xid → the GTID of its prepare. */
  readonly #undecided: Map<string, string>;
  #source: string;
  #number: bigint | undefined;
  #uuidBytes: Buffer;
  #uuid: string;

  constructor(from: Position) {
    this.#set = GtidSet.parse(from).toString();
    this.#runs = new Map();
    this.#closedRuns = [];
    this.#undecided = new Map();
    this.#source = "";
    this.#number = undefined;
    this.#uuidBytes = Buffer.alloc(16);
    this.#uuid = uuidText(this.#uuidBytes);
  }

  begin(event: LogEvent, end: number): GroupStart {
    const { buffer } = event;
    const body = event.start + headerLength;
    if (buffer[event.start + 4] === eventType.gtidTagged) {
      const { source, number } = readTagged(new Cursor(buffer, body, end));
      this.#source = source;
      this.#number = number;
    } else {
      this.#source = this.#uuidAt(buffer, body + 1);
      this.#number = buffer.readBigInt64LE(body + 17);
    }
    return { standalone: false, prepares: undefined };
  }

  commit(): void {
    invariant(this.#number !== undefined, "a transaction ends that had no GTID");
    this.#addRun(this.#source, this.#number);
    this.#number = undefined;
  }

  prepare(xid: string): void {
    this.#undecided.set(xid, this.#current() ?? "");
    this.#number = undefined;
  }

  decide(xid: string): void {
    const prepared = this.#undecided.get(xid);
    invariant(prepared !== undefined, `no undecided XA transaction ${xid}`);
    this.#undecided.delete(xid);
    this.#closedRuns.push(prepared);
    this.commit();
  }

  abandon(): void {
    this.#number = undefined;
  }

  position(): Position {
    if (this.#runs.size > 0 || this.#closedRuns.length > 0) {
      const runs = [...this.#runs].map(([source, { first, last }]) => `${source}:${first}-${last}`);
      this.#set = unionOfSets([this.#set, ...this.#closedRuns, ...runs]);
      this.#runs.clear();
      this.#closedRuns = [];
    }
    return this.#set;
  }

  seen(): Position {
    const current = this.#current();
    return unionOfSets([
      this.position(),
      ...this.#undecided.values(),
      ...(current === undefined ? [] : [current]),
    ]);
  }

  #current(): string | undefined {
    return this.#number === undefined ? undefined : `${this.#source}:${this.#number}`;
  }

  #addRun(source: string, number: bigint): void {
    const run = this.#runs.get(source);
    if (run?.last === number - 1n) {
      run.last = number;
      return;
    }
    if (run !== undefined) this.#closedRuns.push(`${source}:${run.first}-${run.last}`);
    this.#runs.set(source, { first: number, last: number });
  }

  /** Most transactions have the same source as the one before. */
  #uuidAt(buffer: Buffer, at: number): string {
    if (buffer.compare(this.#uuidBytes, 0, 16, at, at + 16) !== 0) {
      buffer.copy(this.#uuidBytes, 0, at, at + 16);
      this.#uuid = uuidText(this.#uuidBytes);
    }
    return this.#uuid;
  }
}

/** The union of GTID sets in canonical text. */
export function unionOfSets(sets: readonly string[]): string {
  return GtidSet.parse(sets.filter((set) => set !== "").join(",")).toString();
}

function uuidText(bytes: Uint8Array): string {
  return Buffer.from(bytes)
    .toString("hex")
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** Wire form of a set for COM_BINLOG_DUMP_GTID. zongji has it but leaves it out of its types. */
export function encodeGtidSet(set: Position): Buffer {
  return (GtidSet.parse(set) as unknown as { encode(): Buffer }).encode();
}

/**
 * GTID_TAGGED_LOG (MySQL 8.3): a message of numbered fields, of which 0 flags, 1 uuid, 2 number and 3 tag come first
 * (MySQL libs/mysql/binlog/event/control_events.h, Gtid_event::define_fields).
 */
function readTagged(cursor: Cursor): { readonly source: string; readonly number: bigint } {
  const version = varint(cursor);
  if (version !== 1n) throw new RangeError(`tagged GTID of serialisation version ${version}`);
  varint(cursor);
  varint(cursor);
  if (varint(cursor) !== 0n) throw new RangeError("a tagged GTID without flags");
  varint(cursor);
  if (varint(cursor) !== 1n) throw new RangeError("a tagged GTID without a source");
  const uuid = Uint8Array.from({ length: 16 }, () => Number(varint(cursor)));
  if (varint(cursor) !== 2n) throw new RangeError("a tagged GTID without a number");
  const zigzag = varint(cursor);
  if (varint(cursor) !== 3n) throw new RangeError("a tagged GTID without a tag");
  const tag = cursor.text(Number(varint(cursor)));
  return { source: `${uuidText(uuid)}${tag === "" ? "" : `:${tag}`}`, number: zigzag >> 1n };
}

/** The number of trailing one-bits in the first byte is the number of further bytes. */
function varint(cursor: Cursor): bigint {
  const first = cursor.uint(1);
  let extra = 0;
  while (extra < 8 && ((first >> extra) & 1) === 1) extra += 1;
  let rest = 0n;
  for (let index = 0; index < extra; index++) rest |= BigInt(cursor.uint(1)) << BigInt(8 * index);
  return extra === 8 ? rest : BigInt(first >> (extra + 1)) | (rest << BigInt(7 - extra));
}
