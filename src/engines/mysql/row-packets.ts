import type { Connection } from "mysql2";
import { invariant } from "../../errors/error.ts";

/**
 * Reads a result set as raw row packets of the text protocol, over a mysql2 connection, without decoding a value:
 * decoding costs more than the whole rest of a copy and loses digits (facts/copy-and-log, 3 and 4; hard-cases, 0.5).
 *
 * Invariant: `end()` is called exactly once, and without an error only after the server's own end packet. A lost
 * connection, an error in mid-stream, a result of another form are errors, never a short success (hard-cases, B18).
 *
 * Rests on internals of mysql2 that its typings leave out (`DriverConnection`), hence the pinned version: a command
 * is an object with `execute(packet, connection)`; the packet object is reused, so nothing of it is kept; the parser
 * joins packets of 16 MiB and more itself; `onResult` is called when the connection breaks.
 */

/** Receives rows. `row` is called synchronously from the socket's data event; the bytes are only valid during it. */
export interface RowSink {
  row(buffer: Buffer, start: number, end: number): void;
  end(error?: unknown): void;
}

/** A packet as mysql2's parser hands it out: payload in `[offset, end)`. */
export interface DriverPacket {
  readonly buffer: Buffer;
  readonly offset: number;
  readonly end: number;
}

/** A command of our own: returns true when it has read its last packet. */
export interface DriverCommand {
  execute(packet: DriverPacket | undefined, connection: DriverConnection): boolean;
  /** Called by the driver when the connection breaks. */
  onResult(error: unknown): void;
}

/** What we use of mysql2's connection besides its public interface. */
export interface DriverConnection {
  readonly stream: NodeJS.WritableStream & {
    readonly writableNeedDrain: boolean;
    readonly destroyed: boolean;
    cork(): void;
    uncork(): void;
    destroy(): void;
  };
  readonly config: { readonly clientFlags: number };
  readonly serverCapabilityFlags: number;
  readonly sequenceId: number;
  addCommand(command: DriverCommand): unknown;
  pause(): void;
  resume(): void;
  write(bytes: Uint8Array): void;
  _resetSequenceId(): void;
  _bumpSequenceId(packets: number): void;
}

/** The driver's inside of a connection (callback interface). */
export function driverConnection(connection: Connection): DriverConnection {
  const inside = connection as unknown as DriverConnection;
  invariant(
    typeof inside.addCommand === "function" && typeof inside._bumpSequenceId === "function",
    "mysql2 has changed: its connections do not take commands any more",
  );
  return inside;
}

/** CLIENT_* flags (manual, Client/Server Protocol). */
const clientDeprecateEof = 1 << 24;
const clientQueryAttributes = 1 << 27;
const clientSessionTrack = 1 << 23;
const serverMoreResultsExist = 8;

function negotiated(connection: DriverConnection, flag: number): boolean {
  return (connection.config.clientFlags & connection.serverCapabilityFlags & flag) !== 0;
}

export function tracksSession(connection: DriverConnection): boolean {
  return negotiated(connection, clientSessionTrack);
}

/** Sends COM_QUERY. The statement must be shorter than one packet (16 MiB). */
export function writeQuery(connection: DriverConnection, sql: string): void {
  const text = Buffer.from(sql, "utf8");
  // With CLIENT_QUERY_ATTRIBUTES (MySQL only) the statement follows "0 parameters, 1 set"; without it the server
  // calls the packet malformed (facts/copy-and-log, 3).
  const prefix = negotiated(connection, clientQueryAttributes) ? [0x03, 0, 1] : [0x03];
  connection._resetSequenceId();
  writePacket(connection, Buffer.concat([Buffer.from(prefix), text]));
}

/** Writes one packet: the payload is not copied. */
export function writePacket(connection: DriverConnection, payload: Uint8Array): void {
  invariant(payload.length < 0xff_ff_ff, "a packet of 16 MiB or more must be split");
  const header = Buffer.allocUnsafe(4);
  header.writeUIntLE(payload.length, 0, 3);
  header[3] = connection.sequenceId;
  connection._bumpSequenceId(1);
  connection.stream.cork();
  connection.write(header);
  if (payload.length > 0) connection.write(payload);
  connection.stream.uncork();
}

/** What a server has answered instead of a result. Carries `errno` and `sqlState` as mysql2's own errors do. */
export class ServerError extends Error {
  override readonly name = "ServerError";
  readonly errno: number;
  readonly sqlState: string;

  constructor(packet: DriverPacket) {
    const { buffer, offset, end } = packet;
    super(buffer.toString("utf8", offset + 9, end));
    this.errno = buffer.readUInt16LE(offset + 1);
    this.sqlState = buffer.toString("latin1", offset + 4, offset + 9);
  }
}

/** The connection ended, or spoke another protocol, before the answer was complete. */
export function lostConnection(what: string): Error {
  return Object.assign(new Error(what), { code: "PROTOCOL_CONNECTION_LOST", fatal: true });
}

/**
 * Runs a SELECT and feeds its rows to the sink. To stop early, destroy the connection: the text protocol knows no
 * other way, and the sink then gets an error.
 */
export function selectRows(connection: Connection, sql: string, sink: RowSink): void {
  const driver = driverConnection(connection);
  const command = new SelectCommand(driver, sql, sink);
  driver.addCommand(command);
}

class SelectCommand implements DriverCommand {
  readonly #driver: DriverConnection;
  readonly #sql: string;
  readonly #sink: RowSink;
  readonly #deprecateEof: boolean;
  readonly #onClose = (): void =>
    this.onResult(lostConnection("the connection was closed in the middle of a result"));
  #state: "send" | "header" | "columns" | "columnsEnd" | "rows" | "ended" = "send";
  #columnsLeft = 0;

  constructor(driver: DriverConnection, sql: string, sink: RowSink) {
    this.#driver = driver;
    this.#sql = sql;
    this.#sink = sink;
    this.#deprecateEof = negotiated(driver, clientDeprecateEof);
    // After `destroy()` the driver does not tell its commands; the socket does.
    driver.stream.once("close", this.#onClose);
  }

  execute(packet: DriverPacket | undefined, connection: DriverConnection): boolean {
    if (this.#state === "rows" && packet !== undefined) {
      const first = packet.buffer[packet.offset];
      // A row can begin with 0xFE too (a value of 16 MiB and more), but is then far longer than an end packet.
      if (first !== 0xff && (first !== 0xfe || packet.end - packet.offset >= this.#endLength())) {
        this.#sink.row(packet.buffer, packet.offset, packet.end);
        return false;
      }
    }
    return this.#control(packet, connection);
  }

  onResult(error: unknown): void {
    this.#finish(error ?? lostConnection("the connection was lost in the middle of a result"));
  }

  #endLength(): number {
    return this.#deprecateEof ? 0xff_ff_ff : 9;
  }

  #control(packet: DriverPacket | undefined, connection: DriverConnection): boolean {
    if (this.#state === "ended") return true;
    if (this.#state === "send" || packet === undefined) {
      this.#state = "header";
      writeQuery(connection, this.#sql);
      return false;
    }
    const first = packet.buffer[packet.offset];
    if (first === 0xff) return this.#finish(new ServerError(packet));
    switch (this.#state) {
      case "header":
        // 0x00 is an OK without rows, 0xFB asks for a local file: no SELECT of ours has such an answer.
        if (first === 0 || first === 0xfb)
          return this.#breakOff("the server did not answer a SELECT with rows");
        this.#columnsLeft = lengthAt(packet.buffer, packet.offset);
        this.#state = "columns";
        return false;
      case "columns":
        this.#columnsLeft -= 1;
        if (this.#columnsLeft === 0) this.#state = this.#deprecateEof ? "rows" : "columnsEnd";
        return false;
      case "columnsEnd":
        if (first !== 0xfe) return this.#breakOff("no end packet after the column definitions");
        this.#state = "rows";
        return false;
      case "rows":
        return this.#end(packet);
    }
  }

  #end({ buffer, offset }: DriverPacket): boolean {
    // EOF: FE warnings(2) status(2). OK in its place: FE affected(1) insertId(1) status(2) … of a SELECT both 0.
    const status = buffer.readUInt16LE(offset + 3);
    if ((status & serverMoreResultsExist) !== 0) return this.#breakOff("a SELECT with more than one result");
    return this.#finish();
  }

  /** What follows on this connection can not be understood any more. */
  #breakOff(why: string): boolean {
    this.#finish(lostConnection(why));
    this.#driver.stream.destroy();
    return true;
  }

  #finish(error?: unknown): true {
    if (this.#state !== "ended") {
      this.#state = "ended";
      this.#driver.stream.removeListener("close", this.#onClose);
      this.#sink.end(error);
    }
    return true;
  }
}

/** A length-encoded integer below 2^32 (manual, Protocol::LengthEncodedInteger). */
export function lengthAt(buffer: Buffer, offset: number): number {
  const first = buffer[offset] ?? 0;
  if (first < 0xfb) return first;
  if (first === 0xfc) return buffer.readUInt16LE(offset + 1);
  if (first === 0xfd) return buffer.readUIntLE(offset + 1, 3);
  return buffer.readUInt32LE(offset + 1);
}

/** Bytes that the length-encoded integer itself takes. */
export function lengthSize(buffer: Buffer, offset: number): number {
  const first = buffer[offset] ?? 0;
  if (first < 0xfb) return 1;
  if (first === 0xfc) return 3;
  if (first === 0xfd) return 4;
  return 9;
}
