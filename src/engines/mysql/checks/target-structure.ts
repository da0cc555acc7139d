import { ShardliftError } from "../../../errors/error.ts";
import type { TableSpec } from "../../engine.ts";
import { structureDifferences } from "../structure.ts";
import { mysqlTable, type MysqlTable } from "../table.ts";
import type { MysqlSession } from "../session.ts";
import { rule, sqlTable } from "./rule.ts";

/** A table that the target has already must take exactly the source's rows (hard-cases K07, S18). */
export const targetStructure = rule("target-structure", ["target"], async (scope) => {
  const existing = await scope.session.catalog.existing(scope.context.tables.map((table) => table.name));
  for (const spec of scope.context.tables) {
    if (!existing.has(spec.name)) continue;
    const source = await describe(scope.peer, spec);
    const target = await describe(scope.session, spec);
    // What is wrong with the source's own table is reported by the rules about it.
    if (typeof source === "string") continue;
    const differences = typeof target === "string" ? [target] : structureDifferences(source, target);
    for (const difference of differences) {
      scope.blocker(
        difference,
        `make both tables alike, or drop the target's if it is empty: DROP TABLE ${sqlTable(scope.database, spec.name)}`,
        spec.name,
      );
    }
  }
});

async function describe(session: MysqlSession, spec: TableSpec): Promise<MysqlTable | string> {
  try {
    const [shape] = await session.catalog.describe([spec]);
    return shape === undefined ? "it can not be described" : mysqlTable(shape);
  } catch (error) {
    if (error instanceof ShardliftError && error.code === "E_PREFLIGHT") return error.message;
    throw error;
  }
}
