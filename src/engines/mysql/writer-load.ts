import { ShardliftError } from "../../errors/error.ts";
import type { RowForm } from "./row-columns.ts";
import type { MysqlConnection } from "./query.ts";
import {
  driverConnection,
  lengthAt,
  lengthSize,
  lostConnection,
  ServerError,
  tracksSession,
  writePacket,
  writeQuery,
  type DriverCommand,
  type DriverConnection,
  type DriverPacket,
} from "./row-packets.ts";

/**
 * LOAD DATA LOCAL fed from an async iterator of blocks, over a mysql2 connection. mysql2's own `infileStreamFactory`
 * copies every block once more, and goes on sending after an error of the server, which puts the connection out of
 * step.
 *
 * Invariant: the file is over (the empty packet is sent) before the answer is read, also when the blocks fail: the
 * connection stays usable, and the caller rolls back. What the server says about the rows is returned, not judged.
 */
export interface LoadAnswer {
  readonly affectedRows: number;
  readonly warnings: number;
  readonly records: number;
  readonly deleted: number;
  readonly skipped: number;
}

/** The statement for `into` (a quoted table name); duplicates are skipped with a warning unless `replace`. */
export function loadStatement(into: string, form: RowForm, replace: boolean): string {
  const set = form.set.length === 0 ? "" : ` SET ${form.set.join(", ")}`;
  // The file name is never looked at: the client decides what it sends.
  return `LOAD DATA LOCAL INFILE 'rows' ${replace ? "REPLACE " : ""}INTO TABLE ${into} CHARACTER SET binary FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' (${form.load.join(", ")})${set}`;
}

export async function loadRows(
  connection: MysqlConnection,
  sql: string,
  blocks: AsyncIterator<Uint8Array>,
): Promise<LoadAnswer> {
  const driver = driverConnection(connection);
  return await new Promise((resolve, reject) => {
    const command = new LoadCommand(driver, sql, blocks, { resolve, reject });
    driver.addCommand(command);
  });
}

/** Above max_allowed_packet the server refuses a packet; its least sensible setting is 1 MiB. */
const packetBytes = 1 << 18;

interface Settle {
  readonly resolve: (answer: LoadAnswer) => void;
  readonly reject: (error: unknown) => void;
}

class LoadCommand implements DriverCommand {
  readonly #driver: DriverConnection;
  readonly #sql: string;
  readonly #blocks: AsyncIterator<Uint8Array>;
  readonly #settle: Settle;
  readonly #broken = new AbortController();
  #state: "send" | "request" | "sending" | "answer" | "ended" = "send";
  /** Why the blocks ended early. */
  #sourceError: unknown;

  constructor(driver: DriverConnection, sql: string, blocks: AsyncIterator<Uint8Array>, settle: Settle) {
    this.#driver = driver;
    this.#sql = sql;
    this.#blocks = blocks;
    this.#settle = settle;
    driver.stream.once("close", this.#onClose);
  }

  execute(packet: DriverPacket | undefined, connection: DriverConnection): boolean {
    if (this.#state === "ended") return true;
    if (this.#state === "send" || packet === undefined) {
      this.#state = "request";
      writeQuery(connection, this.#sql);
      return false;
    }
    const first = packet.buffer[packet.offset];
    if (first === 0xff) return this.#refused(new ServerError(packet));
    if (this.#state === "request" && first === 0xfb) {
      this.#state = "sending";
      void this.#send();
      return false;
    }
    if (this.#state === "answer" && first === 0) return this.#answered(packet);
    this.#fail(lostConnection("the server answered LOAD DATA out of turn"));
    this.#driver.stream.destroy();
    return true;
  }

  onResult(error: unknown): void {
    this.#fail(error ?? lostConnection("the connection was lost in LOAD DATA"));
  }

  /** Never throws: it runs beside `execute`. */
  async #send(): Promise<void> {
    try {
      for (let next = await this.#blocks.next(); next.done !== true; next = await this.#blocks.next()) {
        if (this.#broken.signal.aborted) return;
        const block = next.value;
        for (let from = 0; from < block.length; from += packetBytes) {
          writePacket(this.#driver, block.subarray(from, from + packetBytes));
        }
        if (this.#driver.stream.writableNeedDrain) await this.#drained();
      }
    } catch (error) {
      this.#sourceError = error;
    }
    if (this.#broken.signal.aborted) return;
    this.#state = "answer";
    writePacket(this.#driver, new Uint8Array(0));
  }

  /** Waits until the socket takes more; ends too when the connection breaks. */
  async #drained(): Promise<void> {
    await new Promise<void>((resolve) => {
      const { stream } = this.#driver;
      const done = (): void => {
        stream.removeListener("drain", done);
        this.#broken.signal.removeEventListener("abort", done);
        resolve();
      };
      stream.once("drain", done);
      this.#broken.signal.addEventListener("abort", done);
    });
  }

  #answered(packet: DriverPacket): boolean {
    if (this.#sourceError !== undefined) return this.#fail(this.#sourceError);
    try {
      this.#settle.resolve(readAnswer(packet, tracksSession(this.#driver)));
    } catch (error) {
      return this.#fail(error);
    }
    this.#end();
    return true;
  }

  #refused(error: ServerError): boolean {
    // An error before the file is over leaves the rest of the file on its way to a server that waits for statements.
    if (this.#state === "sending") this.#driver.stream.destroy();
    return this.#fail(this.#sourceError ?? error);
  }

  #fail(error: unknown): true {
    if (this.#state !== "ended") {
      const sending = this.#state === "sending";
      this.#end();
      this.#broken.abort();
      this.#settle.reject(error);
      // Nobody takes the rest; the reader must let its connection go. Its own error is this one or of no use.
      if (sending) void this.#blocks.return?.().catch(() => undefined);
    }
    return true;
  }

  #end(): void {
    this.#state = "ended";
    this.#driver.stream.removeListener("close", this.#onClose);
  }

  readonly #onClose = (): void => this.onResult(lostConnection("the connection was closed in LOAD DATA"));
}

/** OK packet: 00 affected insertId status(2) warnings(2) info (manual, Protocol::OK_Packet). */
function readAnswer({ buffer, offset, end }: DriverPacket, lengthBeforeInfo: boolean): LoadAnswer {
  let at = offset + 1;
  const affectedRows = lengthAt(buffer, at);
  at += lengthSize(buffer, at);
  at += lengthSize(buffer, at);
  const warnings = buffer.readUInt16LE(at + 2);
  at += 4;
  if (lengthBeforeInfo) at += lengthSize(buffer, at);
  // `Records: 2  Deleted: 0  Skipped: 0  Warnings: 0`, in the language of lc_messages: four numbers in any case.
  const counts = [...buffer.toString("latin1", at, end).matchAll(/\d+/g)].map(([count]) => Number(count));
  const [records, deleted, skipped] = counts;
  if (records === undefined || deleted === undefined || skipped === undefined) {
    throw new ShardliftError(
      "E_BUG",
      `the answer to LOAD DATA has no counts: ${buffer.toString("hex", offset, end)}`,
    );
  }
  return { affectedRows, warnings, records, deleted, skipped };
}
