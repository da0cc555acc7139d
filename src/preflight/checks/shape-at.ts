import type { Session, TableShape, TableSpec } from "../../engines/engine.ts";
import { ShardliftError } from "../../errors/error.ts";

/** Undefined for a table that other rules refuse anyway. */
export async function shapeAt(session: Session, table: TableSpec): Promise<TableShape | undefined> {
  try {
    return (await session.catalog.describe([table]))[0];
  } catch (error) {
    if (error instanceof ShardliftError && error.code === "E_PREFLIGHT") return undefined;
    throw error;
  }
}
