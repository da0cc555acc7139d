import type { MysqlColumn, MysqlTable } from "../table.ts";
import { columnType, readColumnLayout, type ColumnLayout } from "./column-layout.ts";
import { Cursor, headerLength, type LogEvent } from "./event.ts";

/**
 * TABLE_MAP: which table the following rows events belong to, and how its columns are stored. The event is the only
 * truth about the rows behind it, so it is held against the described table each time that it changes: a table that
 * was altered between its description and the event would otherwise be read with the wrong columns.
 */
export interface TableMap {
  readonly database: string;
  readonly table: string;
  readonly columns: readonly ColumnLayout[];
  /** Present with binlog_row_metadata=FULL. */
  readonly names: readonly string[] | undefined;
}

/** Table ids have six bytes; this one marks a rows event without rows (MySQL's end-of-statement marker). */
export const dummyTableId = 0xff_ffff;

export function tableIdOf({ buffer, start }: LogEvent): number {
  return buffer.readUIntLE(start + headerLength, 6);
}

/** Only the names: most tables in a log are none of ours. */
export function readTableName(
  buffer: Buffer,
  body: number,
  end: number,
): { database: string; table: string } {
  return readName(new Cursor(buffer, body + 8, end));
}

function readName(cursor: Cursor): { database: string; table: string } {
  const database = cursor.text(cursor.uint(1));
  cursor.skip(1);
  const table = cursor.text(cursor.uint(1));
  cursor.skip(1);
  return { database, table };
}

/** `body` is behind the event header, `end` before the checksum. */
export function readTableMap(buffer: Buffer, body: number, end: number): TableMap {
  const cursor = new Cursor(buffer, body + 8, end);
  const name = readName(cursor);
  const codes = cursor.bytes(cursor.lengthEncoded());
  const metadataLength = cursor.lengthEncoded();
  const metadata = new Cursor(buffer, cursor.at, cursor.at + metadataLength);
  cursor.skip(metadataLength);
  const columns = [...codes].map((code) => readColumnLayout(code, metadata));
  if (metadata.left !== 0) throw new RangeError(`${metadata.left} bytes of column metadata are left over`);
  cursor.skip((codes.length + 7) >> 3);
  return { ...name, columns, names: readColumnNames(cursor) };
}

/** Field 4 of the optional metadata; the other fields tell nothing that reading keys needs. */
function readColumnNames(cursor: Cursor): readonly string[] | undefined {
  while (cursor.left > 0) {
    const field = cursor.uint(1);
    const length = cursor.lengthEncoded();
    const at = cursor.skip(length);
    if (field !== 4) continue;
    const inner = new Cursor(cursor.buffer, at, at + length);
    const names: string[] = [];
    while (inner.left > 0) names.push(inner.text(inner.lengthEncoded()));
    return names;
  }
  return undefined;
}

// ── the described table ──────────────────────────────────────────────────────────────────────────────────────────

/** Why the event's columns are not those of the described table; undefined when they are. */
export function whyDifferent(table: MysqlTable, map: TableMap): string | undefined {
  const described = table.detail.columns;
  const hidden = map.columns.length - described.length;
  if (hidden !== 0 && hidden !== hiddenColumns(table)) {
    return `it has ${map.columns.length} columns in the log and ${described.length} when the job was started`;
  }
  for (const [index, column] of described.entries()) {
    const layout = map.columns[index];
    if (layout === undefined || !fits(column, layout)) {
      return `column ${index + 1} (${column.name} ${column.columnType}) has another type in the log`;
    }
    const name = map.names?.[index];
    if (name !== undefined && name.toLowerCase() !== column.name.toLowerCase()) {
      return `column ${index + 1} is called ${name} in the log and ${column.name} when the job was started`;
    }
  }
  return undefined;
}

/** MariaDB keeps a unique key over a long column as a hidden hash column behind the others (facts/hard-cases, K21). */
function hiddenColumns(table: MysqlTable): number {
  return table.detail.createSql.match(/^\s*UNIQUE KEY .* USING HASH/gm)?.length ?? 0;
}

function fits(column: MysqlColumn, layout: ColumnLayout): boolean {
  const types = typesOf[column.dataType];
  if (types === undefined || !types.includes(layout.type)) return false;
  const { size, scale } = layout;
  switch (layout.type) {
    case columnType.decimal:
      return size === column.precision && scale === column.scale;
    case columnType.timestamp:
    case columnType.datetime:
    case columnType.time:
      return scale === (column.fraction ?? 0);
    case columnType.bit:
      return size === column.precision;
    case columnType.string:
    case columnType.varchar:
      return column.octetLength === undefined || size === column.octetLength;
    case columnType.blob:
      return (blobSizes[column.dataType] ?? size) === size;
    default:
      return true;
  }
}

const t = columnType;

/** Type codes in the log of each DATA_TYPE of information_schema. The old temporal codes are MariaDB's. */
const typesOf: Readonly<Record<string, readonly number[]>> = {
  tinyint: [t.tiny],
  smallint: [t.short],
  mediumint: [t.int24],
  int: [t.long],
  bigint: [t.longlong],
  float: [t.float],
  double: [t.double],
  decimal: [t.decimal],
  bit: [t.bit],
  year: [t.year],
  date: [t.date, t.newdate],
  time: [t.time, t.timeOld],
  datetime: [t.datetime, t.datetimeOld],
  timestamp: [t.timestamp, t.timestampOld],
  char: [t.string],
  binary: [t.string],
  varchar: [t.varchar, t.mariadbVarcharCompressed],
  varbinary: [t.varchar, t.mariadbVarcharCompressed],
  tinytext: [t.blob, t.mariadbBlobCompressed],
  text: [t.blob, t.mariadbBlobCompressed],
  mediumtext: [t.blob, t.mariadbBlobCompressed],
  longtext: [t.blob, t.mariadbBlobCompressed],
  tinyblob: [t.blob, t.mariadbBlobCompressed],
  blob: [t.blob, t.mariadbBlobCompressed],
  mediumblob: [t.blob, t.mariadbBlobCompressed],
  longblob: [t.blob, t.mariadbBlobCompressed],
  enum: [t.enum],
  set: [t.set],
  json: [t.json],
  vector: [t.vector, t.varchar],
  uuid: [t.string],
  inet4: [t.string],
  inet6: [t.string],
  geometry: [t.geometry],
  point: [t.geometry],
  linestring: [t.geometry],
  polygon: [t.geometry],
  multipoint: [t.geometry],
  multilinestring: [t.geometry],
  multipolygon: [t.geometry],
  geometrycollection: [t.geometry],
  geomcollection: [t.geometry],
};

/** Bytes that hold the length of a value. */
const blobSizes: Readonly<Record<string, number>> = {
  tinytext: 1,
  tinyblob: 1,
  text: 2,
  blob: 2,
  mediumtext: 3,
  mediumblob: 3,
  longtext: 4,
  longblob: 4,
};

/**
 * Layouts as the rows really have them: MariaDB's temporal columns of the 5.3 format are logged under the old codes
 * without their precision, and a fraction makes them wider (facts/hard-cases, D33).
 */
export function trueLayouts(table: MysqlTable, map: TableMap): readonly ColumnLayout[] {
  return map.columns.map((layout, index) => {
    const widths = oldTemporalWidths[layout.type];
    const width = widths?.[table.detail.columns[index]?.fraction ?? 0];
    return width === undefined ? layout : { ...layout, width };
  });
}

/** By fraction digits. */
const oldTemporalWidths: Readonly<Record<number, readonly number[]>> = {
  [t.timestampOld]: [4, 5, 5, 6, 6, 7, 7],
  [t.timeOld]: [3, 4, 4, 5, 5, 5, 6],
  [t.datetimeOld]: [8, 6, 6, 7, 7, 7, 8],
};
