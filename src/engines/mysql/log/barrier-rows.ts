import { ledgerDatabase } from "../ledger-schema.ts";
import { readTableMap } from "./table-map.ts";
import { columnType, type ColumnLayout } from "./column-layout.ts";
import type { LogEvent, RowsLayout } from "./event.ts";
import { RowsWalker } from "./rows-walker.ts";

/** Where barriers are committed (DESIGN rule 3); its first two columns are job and n (ledger-schema.ts). */
export const barrierTable = "barrier";

/** Reads the barriers of one job from the rows events of the marker table. */
export class BarrierRows {
  readonly #job: Buffer;
  readonly #walker: RowsWalker;

  /** `body` is behind the header of a TABLE_MAP event. */
  constructor(job: string, buffer: Buffer, body: number, end: number) {
    const { columns } = readTableMap(buffer, body, end);
    if (!isMarker(columns))
      throw new RangeError(`${ledgerDatabase}.${barrierTable} has other columns than ours`);
    this.#job = Buffer.from(job, "latin1");
    this.#walker = new RowsWalker(columns, [0, 1], 0);
  }

  /** Calls `found` with each barrier of the job; returns the number of changed rows. */
  read(event: LogEvent, end: number, layout: RowsLayout, found: (n: number) => void): number {
    const walker = this.#walker;
    walker.open(event, end, layout);
    let rows = 0;
    while (walker.next()) {
      rows += 1;
      const [jobAt = -1, jobLength = 0, at = -1] = walker.isUpdate ? walker.after : walker.before;
      if (jobAt < 0 || at < 0) throw new RangeError("a barrier's row does not show its job and number");
      if (this.#job.compare(walker.buffer, jobAt, jobAt + jobLength) !== 0) continue;
      found(Number(walker.buffer.readBigUInt64LE(at)));
    }
    return rows;
  }
}

function isMarker([job, n]: readonly ColumnLayout[]): boolean {
  return job?.type === columnType.varchar && n?.type === columnType.longlong;
}
