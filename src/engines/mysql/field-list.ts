import { invariant } from "../../errors/error.ts";
import { execute, kill, type MysqlConnection } from "./query.ts";
import {
  driverConnection,
  lengthAt,
  lengthSize,
  lostConnection,
  ServerError,
  writePacket,
  type DriverCommand,
  type DriverConnection,
  type DriverPacket,
} from "./row-packets.ts";

/**
 * The defaults of a table's columns as bytes in each column's own character set. No query tells them: in a SELECT,
 * DEFAULT(c) is NULL without a row (measured on MariaDB, for NOT NULL columns), and every text of information_schema
 * is utf8mb3. The protocol's own COM_FIELD_LIST does, and needs no right beyond SELECT.
 * Invariant: the connection has its own character set again when this returns, or is dead.
 */
export async function readFieldDefaults(
  connection: MysqlConnection,
  database: string,
  table: string,
): Promise<Map<string, Buffer>> {
  // Without a conversion to the client's character set: what has no place in Unicode must come through as well.
  await execute(connection, "SET SESSION character_set_results = NULL");
  try {
    const packets = await fieldList(connection, table);
    const defaults = new Map<string, Buffer>();
    for (const packet of packets) {
      const field = readField(packet);
      invariant(
        field?.database.toLowerCase() === database.toLowerCase(),
        `the fields of ${database}.${table} came in an unknown form`,
      );
      if (field.byDefault !== undefined) defaults.set(field.name, field.byDefault);
    }
    return defaults;
  } finally {
    await execute(connection, "SET SESSION character_set_results = utf8mb4").catch((error: unknown) => {
      kill(connection, error);
    });
  }
}

/** One packet for each column. */
function fieldList(connection: MysqlConnection, table: string): Promise<Buffer[]> {
  return new Promise((resolve, reject) => {
    const driver = driverConnection(connection);
    driver.addCommand(new FieldListCommand(driver, table, resolve, reject));
  });
}

const comFieldList = 4;

class FieldListCommand implements DriverCommand {
  readonly #driver: DriverConnection;
  readonly #table: string;
  readonly #resolve: (packets: Buffer[]) => void;
  readonly #reject: (error: unknown) => void;
  readonly #packets: Buffer[] = [];
  readonly #onClose = (): void =>
    this.onResult(lostConnection("the connection was closed in a list of fields"));
  #sent = false;

  constructor(
    driver: DriverConnection,
    table: string,
    resolve: (packets: Buffer[]) => void,
    reject: (error: unknown) => void,
  ) {
    this.#driver = driver;
    this.#table = table;
    this.#resolve = resolve;
    this.#reject = reject;
    driver.stream.once("close", this.#onClose);
  }

  execute(packet: DriverPacket | undefined, connection: DriverConnection): boolean {
    if (!this.#sent || packet === undefined) {
      this.#sent = true;
      connection._resetSequenceId();
      writePacket(connection, Buffer.concat([Buffer.of(comFieldList), Buffer.from(`${this.#table}\0`)]));
      return false;
    }
    const { buffer, offset, end } = packet;
    const first = buffer[offset];
    if (first === 0xff) return this.#end(() => this.#reject(new ServerError(packet)));
    // An end packet is short; a column begins with its catalog, `def`.
    if (first === 0xfe && end - offset < 9) return this.#end(() => this.#resolve(this.#packets));
    this.#packets.push(Buffer.from(buffer.subarray(offset, end)));
    return false;
  }

  onResult(error: unknown): void {
    this.#end(() => this.#reject(error ?? lostConnection("the connection was lost in a list of fields")));
  }

  #end(tell: () => void): true {
    this.#driver.stream.removeListener("close", this.#onClose);
    tell();
    return true;
  }
}

interface Field {
  readonly database: string;
  readonly name: string;
  readonly byDefault: Buffer | undefined;
}

/**
 * Protocol::ColumnDefinition41 with a default at its end. MariaDB puts a block of extended metadata before the fixed
 * part when the driver has agreed to it; only one of the two readings comes out at the packet's end.
 */
function readField(packet: Buffer): Field | undefined {
  let at = 0;
  const texts: Buffer[] = [];
  for (let n = 0; n < 6; n += 1) {
    const text = lengthEncoded(packet, at);
    if (text === undefined) return undefined;
    texts.push(text.bytes ?? Buffer.alloc(0));
    at = text.end;
  }
  const metadata = lengthEncoded(packet, at);
  const readings = [at, ...(metadata === undefined ? [] : [metadata.end])].flatMap((from) => {
    // The length of the fixed part (always 12), the part itself, the default.
    const byDefault = packet[from] === 12 ? lengthEncoded(packet, from + 13) : undefined;
    return byDefault?.end === packet.length ? [byDefault.bytes] : [];
  });
  const [database, name] = [texts[1], texts[4]];
  if (readings.length !== 1 || database === undefined || name === undefined) return undefined;
  return { database: database.toString("utf8"), name: name.toString("utf8"), byDefault: readings[0] };
}

/** Bytes after their length; `0xFB` is NULL. Undefined where the packet is too short. */
function lengthEncoded(packet: Buffer, at: number): { bytes: Buffer | undefined; end: number } | undefined {
  if (at >= packet.length) return undefined;
  if (packet[at] === 0xfb) return { bytes: undefined, end: at + 1 };
  const start = at + lengthSize(packet, at);
  if (start > packet.length) return undefined;
  const end = start + lengthAt(packet, at);
  return end > packet.length ? undefined : { bytes: packet.subarray(start, end), end };
}
