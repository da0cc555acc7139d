import type { KeyId } from "../engines/engine.ts";
import type { MoveRun } from "../cutover/cutover-context.ts";
import type { PhaseName, Progress, TableProgress } from "./events.ts";
import { Rates } from "./rates.ts";
import type { TableWork } from "./table-work.ts";

/** First and last primary key of a table when the job looked; only for showing how far the copy is. */
export interface Extent {
  readonly first: KeyId;
  readonly last: KeyId;
}

/**
 * Measures a job for people. Percent is the share of the key space that is copied, never a table statistic; it is
 * never above 99.9 before everything is done (CLI contract; facts/peers W1 to W6).
 */
export class ProgressMeter {
  readonly #moves: readonly MoveRun[];
  readonly #extents: ReadonlyMap<TableWork, Extent | undefined>;
  readonly #throttledBy: () => string | undefined;
  readonly #rates = new Rates();
  #rows = 0;
  #bytes = 0;

  constructor(
    moves: readonly MoveRun[],
    extents: ReadonlyMap<TableWork, Extent | undefined>,
    throttledBy: () => string | undefined,
  ) {
    this.#moves = moves;
    this.#extents = extents;
    this.#throttledBy = throttledBy;
  }

  copied(rows: number, bytes: number): void {
    this.#rows += rows;
    this.#bytes += bytes;
  }

  /** Rows that this run has copied. */
  get rows(): number {
    return this.#rows;
  }

  snapshot(phase: PhaseName): Progress {
    const tables = this.#moves.flatMap(({ work }) => work.tables.map((table) => this.#tableProgress(table)));
    const percent = mean(tables.map((table) => table.percent));
    const rates = this.#rates.sample(performance.now(), { percent, rows: this.#rows, bytes: this.#bytes });
    const tails = this.#moves.map(({ tail }) => tail.status());
    const work = this.#moves.flatMap((move) => move.work.tables);
    return {
      phase,
      copy: {
        rows: work.reduce((sum, table) => sum + table.rowsLoaded, 0),
        bytes: this.#bytes,
        percent,
        rowsPerSecond: rates.rowsPerSecond,
        bytesPerSecond: rates.bytesPerSecond,
        eta: rates.eta,
        throttledBy: this.#throttledBy(),
        tables,
      },
      tail: {
        lagMs: Math.max(0, ...tails.map((tail) => tail.lagMs)),
        livenessMs: Math.max(0, ...tails.map((tail) => tail.livenessMs)),
        dirtyKeys: tails.reduce((sum, tail) => sum + tail.dirtyKeys, 0),
        checkpointAgeMs: tails.reduce<number | undefined>(
          (age, tail) => older(age, tail.checkpointAgeMs),
          undefined,
        ),
      },
      verify: {
        percent: mean(work.map((table) => this.#percent(table, "verified"))),
        mismatches: this.#moves.reduce((sum, { verifier }) => sum + verifier.mismatches.length, 0),
        rows: this.#moves.reduce((sum, { verifier }) => sum + verifier.rows, 0),
      },
    };
  }

  #tableProgress(table: TableWork): TableProgress {
    return { table: table.shape.name, percent: this.#percent(table, "copied"), rows: table.rowsLoaded };
  }

  #percent(table: TableWork, which: "copied" | "verified"): number {
    const coverage = table[which];
    if (coverage.complete) return 100;
    const extent = this.#extents.get(table);
    const gap = coverage.nextGap();
    // The last chunk is in flight.
    if (gap === undefined) return 99.9;
    if (extent === undefined || gap.from === undefined) return 0;
    const work = this.#moves.find((move) => move.work.tables.includes(table))?.work;
    const share = work?.source.reader.share(table.shape, extent, gap.from) ?? 0;
    return Math.min(99.9, Math.max(0, share * 100));
  }
}

/** Asks every source for the ends of its tables. */
export async function readExtents(moves: readonly MoveRun[]): Promise<Map<TableWork, Extent | undefined>> {
  const extents = new Map<TableWork, Extent | undefined>();
  for (const { work } of moves) {
    for (const table of work.tables) extents.set(table, await work.source.reader.extent(table.shape));
  }
  return extents;
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}

function older(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined ? b : b === undefined ? a : Math.max(a, b);
}
