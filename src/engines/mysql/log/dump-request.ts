import { randomInt, randomUUID } from "node:crypto";
import type { Position } from "../../engine.ts";
import { execute, type MysqlConnection } from "../query.ts";
import { quoteString } from "../quote.ts";
import { encodeGtidSet } from "./mysql-gtids.ts";

/** How to ask a server for its log from a position on. */
export interface DumpRequest {
  readonly flavor: "mysql" | "mariadb";
  readonly from: Position;
  readonly heartbeatMs: number;
  /** The server ends the dump at the end of its log instead of waiting for more. */
  readonly stopAtEnd: boolean;
}

/**
 * Sets what the dump thread reads from user variables, and returns the command. The checksum is asked for although
 * nothing checks it: with NONE the server sends it all the same for events that were written with it (measured).
 */
export async function prepareDump(connection: MysqlConnection, request: DumpRequest): Promise<Buffer> {
  const heartbeat = request.heartbeatMs * 1_000_000;
  // While the target is slow we do not read; the server must not give up on us after a minute.
  await execute(connection, "SET SESSION net_write_timeout = 3600");
  if (request.flavor === "mysql") {
    // A replica with an id of its own is never taken for another one and never ends its dump.
    const uuid = quoteString(randomUUID());
    await execute(
      connection,
      `SET @source_heartbeat_period = ${heartbeat}, @master_heartbeat_period = ${heartbeat},
           @source_binlog_checksum = 'CRC32', @master_binlog_checksum = 'CRC32',
           @replica_uuid = ${uuid}, @slave_uuid = ${uuid}`,
    );
    return mysqlCommand(encodeGtidSet(request.from), request.stopAtEnd);
  }
  // Capability 4: GTIDs are understood. Strict: a position that the log does not hold is an error, not a guess.
  await execute(
    connection,
    `SET @mariadb_slave_capability = 4, @slave_gtid_strict_mode = 1, @slave_gtid_ignore_duplicates = 0,
         @master_heartbeat_period = ${heartbeat}, @master_binlog_checksum = 'CRC32',
         @slave_connect_state = ${quoteString(request.from)}`,
  );
  return mariadbCommand(request.stopAtEnd);
}

/** COM_BINLOG_DUMP_GTID: flags, server id, no file name, position 4, the set that we have. */
function mysqlCommand(set: Buffer, stopAtEnd: boolean): Buffer {
  const head = Buffer.alloc(23);
  head.writeUInt8(0x1e, 0);
  head.writeUInt16LE(stopAtEnd ? 1 : 0, 1);
  head.writeUInt32LE(randomServerId(), 3);
  head.writeBigUInt64LE(4n, 11);
  head.writeUInt32LE(set.length, 19);
  return Buffer.concat([head, set]);
}

/** COM_BINLOG_DUMP: position 4, flags, server id, no file name; the server starts from @slave_connect_state. */
function mariadbCommand(stopAtEnd: boolean): Buffer {
  const command = Buffer.alloc(11);
  command.writeUInt8(0x12, 0);
  command.writeUInt32LE(4, 1);
  command.writeUInt16LE(stopAtEnd ? 1 : 0, 5);
  command.writeUInt32LE(randomServerId(), 7);
  return command;
}

/**
 * A new id for each dump, out of the half that nobody gives by hand: a server that sees one id twice ends the older
 * dump (facts/hard-cases, B16), and then the next try has another one.
 */
function randomServerId(): number {
  return randomInt(2 ** 31, 2 ** 32);
}
