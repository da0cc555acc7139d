import type { Check, CheckContext, Finding } from "../../engines/engine.ts";
import { formatSlice } from "../../model/slice.ts";
import { shapeAt } from "./shape-at.ts";

/** Rows of the slice that are already at the target are nobody's: the copy would take them for its own (hard-cases S17). */
export const targetRows: Check = {
  name: "target-rows",
  roles: ["target"],
  code: "E_PREFLIGHT",
  run: findings,
};

/** Enough to tell a few stray rows from a whole data set. */
const countLimit = 1000;

async function findings({ session, peer, tables, slice }: CheckContext): Promise<Finding[]> {
  const existing = await session.catalog.existing(tables.map((table) => table.name));
  const found: Finding[] = [];
  for (const table of tables) {
    const shape = existing.has(table.name) ? await shapeAt(peer, table) : undefined;
    if (shape === undefined) continue;
    const rows = await session.catalog.countRows(shape, slice, countLimit);
    if (rows === 0) continue;
    found.push({
      check: "target-rows",
      level: "blocker",
      where: `${session.server.shard} table ${table.name}`,
      why: `it already holds ${rows === countLimit ? `${rows} or more` : rows} rows of the slice ${formatSlice(slice)}`,
      fix: `look at the rows with ${table.shardKey} in ${formatSlice(slice)}; delete them there if they are leftovers`,
    });
  }
  return found;
}
