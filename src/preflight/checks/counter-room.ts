import { reservedStart } from "../../cutover/counters.ts";
import type { Check, CheckContext, Finding } from "../../engines/engine.ts";
import { ShardliftError } from "../../errors/error.ts";
import { shapeAt } from "./shape-at.ts";

/**
 * Both shards go on handing out generated keys after the flip, each from a part of its own (cutover/counters.ts). A
 * column that has no room for that would be told only at the cutover, after the whole copy.
 */
export const counterRoom: Check = {
  name: "counter-room",
  roles: ["source"],
  code: "E_COUNTER_FULL",
  run: findings,
};

async function findings({ session, tables, moves }: CheckContext): Promise<Finding[]> {
  const found: Finding[] = [];
  for (const table of tables) {
    const shape = await shapeAt(session, table);
    const counter = shape === undefined ? undefined : await session.catalog.autoIncrement(shape);
    if (counter === undefined) continue;
    try {
      reservedStart(table.name, counter, { index: 0, targets: moves });
    } catch (error) {
      if (!(error instanceof ShardliftError && error.code === "E_COUNTER_FULL")) throw error;
      found.push({
        check: "counter-room",
        level: "blocker",
        where: `${session.server.shard} table ${table.name}`,
        why: error.message,
        fix: `ALTER TABLE ${table.name} MODIFY … BIGINT UNSIGNED NOT NULL AUTO_INCREMENT, at every shard that has the table`,
      });
    }
  }
  return found;
}
