import { MariadbGtidPosition } from "@vlasky/zongji";
import { invariant } from "../../../errors/error.ts";
import type { Position } from "../../engine.ts";
import { headerLength, type LogEvent } from "./event.ts";
import type { GroupStart, GtidTracker } from "./gtid-tracker.ts";
import { xidOf } from "./xa.ts";

/** One transaction of a domain; the sequence number is text, since it may exceed 2^53. */
interface Gtid {
  readonly domainId: number;
  readonly serverId: number;
  readonly seqNo: string;
}

/**
 * MariaDB positions name the last transaction of each domain, so everything before it is included. While an XA
 * transaction is undecided, the position of its domain stays in front of it.
 */
export class MariadbGtids implements GtidTracker {
  readonly #domains: Map<number, Gtid>;
  /** xid → where its domain stood before the prepare; in order of the prepares. */
  readonly #undecided: Map<string, { readonly domainId: number; readonly before: Gtid | undefined }>;
  #current: Gtid | undefined;

  constructor(from: Position) {
    this.#domains = parse(from);
    this.#undecided = new Map();
    this.#current = undefined;
  }

  begin({ buffer, start }: LogEvent): GroupStart {
    const body = start + headerLength;
    const flags = buffer[body + 12] ?? 0;
    this.#current = {
      domainId: buffer.readUInt32LE(body + 8),
      serverId: buffer.readUInt32LE(start + 5),
      seqNo: sequenceText(buffer, body),
    };
    let at = body + 13 + ((flags & flag.groupCommitId) === 0 ? 0 : 8);
    let prepares: string | undefined;
    if ((flags & flag.preparedXa) !== 0) {
      const format = buffer.readUInt32LE(at);
      const gtridEnd = at + 6 + (buffer[at + 4] ?? 0);
      prepares = xidOf(
        buffer.subarray(at + 6, gtridEnd),
        buffer.subarray(gtridEnd, gtridEnd + (buffer[at + 5] ?? 0)),
        format,
      );
      at = gtridEnd;
    }
    return { standalone: (flags & flag.standalone) !== 0, prepares };
  }

  commit(): void {
    invariant(this.#current !== undefined, "a transaction ends that had no GTID");
    this.#domains.set(this.#current.domainId, this.#current);
    this.#current = undefined;
  }

  prepare(xid: string): void {
    invariant(this.#current !== undefined, "an XA transaction is prepared without a GTID");
    const { domainId } = this.#current;
    this.#undecided.set(xid, { domainId, before: this.#domains.get(domainId) });
    this.commit();
  }

  decide(xid: string): void {
    invariant(this.#undecided.delete(xid), `no undecided XA transaction ${xid}`);
    this.commit();
  }

  abandon(): void {
    this.#current = undefined;
  }

  position(): Position {
    if (this.#undecided.size === 0) return format(this.#domains.values());
    const domains = new Map<number, Gtid | undefined>(this.#domains);
    // The earliest undecided one of a domain counts, hence backwards.
    for (const { domainId, before } of [...this.#undecided.values()].toReversed())
      domains.set(domainId, before);
    return format([...domains.values()].filter((gtid) => gtid !== undefined));
  }

  seen(): Position {
    const domains = new Map(this.#domains);
    if (this.#current !== undefined) domains.set(this.#current.domainId, this.#current);
    return format(domains.values());
  }
}

/** Flags of a GTID event (MariaDB sql/log_event.h, Gtid_log_event). */
const flag = { standalone: 0x01, groupCommitId: 0x02, preparedXa: 0x40 } as const;

function sequenceText(buffer: Buffer, at: number): string {
  const high = buffer.readUInt32LE(at + 4);
  if (high < 0x20_0000) return String(high * 0x1_0000_0000 + buffer.readUInt32LE(at));
  return buffer.readBigUInt64LE(at).toString();
}

function parse(position: Position): Map<number, Gtid> {
  const entries = MariadbGtidPosition.parse(position).toString().split(",");
  const domains = new Map<number, Gtid>();
  for (const entry of entries) {
    if (entry === "") continue;
    const [domainId = "", serverId = "", seqNo = ""] = entry.split("-");
    domains.set(Number(domainId), { domainId: Number(domainId), serverId: Number(serverId), seqNo });
  }
  return domains;
}

function format(gtids: Iterable<Gtid>): Position {
  const position = MariadbGtidPosition.parse("");
  for (const gtid of gtids) position.add(gtid);
  return position.toString();
}

/** Of each domain the entry with the greater number. */
export function newestOfDomains(a: Position, b: Position): Position {
  const domains = parse(a);
  for (const [domainId, gtid] of parse(b)) {
    const known = domains.get(domainId);
    if (known === undefined || BigInt(known.seqNo) < BigInt(gtid.seqNo)) domains.set(domainId, gtid);
  }
  return format(domains.values());
}
