import type { Position } from "../../engine.ts";
import type { LogEvent } from "./event.ts";
import { MariadbGtids, newestOfDomains } from "./mariadb-gtids.ts";
import { MysqlGtids, unionOfSets } from "./mysql-gtids.ts";

/**
 * Follows the transactions of a stream by their GTIDs. Two things come out: the position from which the log can be
 * read again without missing a change, and everything that was read so far. They differ by the transaction that is
 * being read and by XA transactions that are prepared but undecided: their keys are not delivered yet, so the position
 * never passes one (DESIGN rule 9).
 */
export interface GtidTracker {
  /** A GTID event begins a group of events. `end` is before the checksum. */
  begin(event: LogEvent, end: number): GroupStart;
  /** The group that was begun is complete and its keys are delivered. */
  commit(): void;
  /** The group prepared the XA transaction `xid`; its keys are held. */
  prepare(xid: string): void;
  /** The group that was begun decided `xid`. Both groups are complete. */
  decide(xid: string): void;
  /** The group has no end in the log (the server died while it wrote it) and will not be seen again. */
  abandon(): void;
  position(): Position;
  /** Everything of which an event was read, the group that is being read included. */
  seen(): Position;
}

export interface GroupStart {
  /** The group is one statement without a commit event behind it (MariaDB says so; MySQL has to be seen). */
  readonly standalone: boolean;
  /** The XA transaction that the group prepares, where the event says it (MariaDB). */
  readonly prepares: string | undefined;
}

/** Both positions' transactions together; what a lost stream has delivered stays seen although it is read again. */
export function furthest(flavor: "mysql" | "mariadb", a: Position, b: Position): Position {
  return flavor === "mysql" ? unionOfSets([a, b]) : newestOfDomains(a, b);
}

export function gtidTracker(flavor: "mysql" | "mariadb", from: Position): GtidTracker {
  return flavor === "mysql" ? new MysqlGtids(from) : new MariadbGtids(from);
}
