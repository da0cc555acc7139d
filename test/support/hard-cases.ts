/** The cases of fixtures/mysql: schemas and workloads that broke other tools, with the exact-content query of each table. */
import { hash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Connection, RowDataPacket } from "mysql2/promise";
import { z } from "zod";
import type { ServerFlavor } from "../../src/lib/server-binary.ts";

const folder = fileURLToPath(new URL("../../fixtures/mysql/", import.meta.url));

const caseSchema = z.object({
  id: z.string(),
  title: z.string(),
  verdict: z.string(),
  tables: z.array(z.string()),
  shardKey: z.string(),
  flavours: z.array(z.enum(["mariadb", "mysql8"])),
  move: z.object({ from: z.union([z.string(), z.number()]) }),
});

export interface HardCase {
  readonly id: string;
  readonly title: string;
  readonly tables: readonly string[];
  readonly shardKey: string;
  /** The key at which the slice begins that moves. */
  readonly from: string;
  readonly works: boolean;
  readonly flavors: readonly ServerFlavor[];
}

export const hardCases: readonly HardCase[] = z
  .array(caseSchema)
  .parse(JSON.parse(readFileSync(`${folder}manifest.json`, "utf8")))
  .map(({ id, title, verdict, tables, shardKey, flavours, move }) => ({
    id,
    title,
    tables,
    shardKey: /^`?([^`\s]+)`?/.exec(shardKey)?.[1] ?? shardKey,
    from: String(move.from),
    works: verdict === "works",
    flavors: flavours.map((flavour) => (flavour === "mysql8" ? "mysql" : flavour)),
  }));

/** Runs a file of statements in the current database, one statement a line or until a `;` at a line's end. */
export async function runFile(
  connection: Connection,
  id: string,
  file: "schema" | "workload",
): Promise<void> {
  for (const statement of statementsOf(id, file)) await connection.query(statement);
}

/** The statements of a case's file. */
export function statementsOf(id: string, file: "schema" | "workload"): string[] {
  return readFileSync(`${folder}${id}/${file}.sql`, "utf8")
    .split(/;[ \t]*\r?\n/)
    .map((statement) =>
      statement
        .replace(/^(?:\s*--[^\n]*\n)+/, "")
        .trim()
        .replace(/;$/, ""),
    )
    .filter((statement) => statement !== "");
}

/** The exact content of a table as sorted lines made by the server; `where` limits the rows. */
export async function canonicalRows(
  connection: Connection,
  id: string,
  table: string,
  where: string,
): Promise<string[]> {
  const marker = `-- ${id} `;
  const lines = readFileSync(`${folder}canon.sql`, "utf8").split("\n");
  const statements = lines.filter((_, index) => lines[index - 1]?.startsWith(marker) === true);
  const quoted = `FROM \`${table.replaceAll("`", "``")}\`;`;
  const statement = statements.find((text) => text.endsWith(quoted));
  if (statement === undefined) throw new Error(`canon.sql has no query for ${id} ${table}`);
  await connection.query("SET NAMES utf8mb4");
  await connection.query("SET time_zone = '+00:00'");
  const [rows] = await connection.query<RowDataPacket[]>(`${statement.slice(0, -1)} WHERE ${where}`);
  return rows.map((row) => readable(String(row["canon"]))).toSorted();
}

/** Long rows as their head and a digest: a difference stays a difference, and its report can be read. */
function readable(row: string): string {
  return row.length <= 400 ? row : `${row.slice(0, 300)}… ${hash("sha256", row)}`;
}
