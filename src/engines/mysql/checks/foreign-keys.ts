import { quoteIdentifier } from "../quote.ts";
import { rule, sqlTable, type RuleScope } from "./rule.ts";

/**
 * Foreign keys of a moved table, in either direction. Cascades reach rows behind the gate's back, and MariaDB does not
 * even log them (facts/gate 1.4, hard-cases 0.4). Refused for now, also between two moved tables.
 */
export const foreignKeys = rule("foreign-keys", ["source", "target"], async (scope) => {
  const found = [...(await visibleForeignKeys(scope)), ...(await hiddenForeignKeys(scope))];
  for (const { name, child, parent } of new Map(
    found.map((key) => [`${key.child} ${key.name}`, key]),
  ).values()) {
    const isChild = scope.context.tables.some((table) => child === sqlTable(scope.database, table.name));
    scope.blocker(
      isChild
        ? `foreign key ${name} refers to ${parent}`
        : `foreign key ${name} of ${child} refers to it: deleting or changing a parent row changes child rows unseen`,
      `ALTER TABLE ${child} DROP FOREIGN KEY ${quoteIdentifier(name)}`,
      (isChild ? child : parent).split(".").at(-1)?.replaceAll("`", ""),
    );
  }
});

interface ForeignKey {
  readonly name: string;
  /** Quoted, with the database. */
  readonly child: string;
  readonly parent: string;
}

async function visibleForeignKeys(scope: RuleScope): Promise<ForeignKey[]> {
  const names = scope.context.tables.map((table) => table.name);
  const rows = await scope.query<{ name: string; cdb: string; ctbl: string; pdb: string; ptbl: string }>(
    `SELECT DISTINCT CONSTRAINT_NAME AS name, TABLE_SCHEMA AS cdb, TABLE_NAME AS ctbl,
            REFERENCED_TABLE_SCHEMA AS pdb, REFERENCED_TABLE_NAME AS ptbl
       FROM information_schema.KEY_COLUMN_USAGE
      WHERE REFERENCED_TABLE_NAME IS NOT NULL
        AND ((TABLE_SCHEMA = ? AND TABLE_NAME IN (?)) OR (REFERENCED_TABLE_SCHEMA = ? AND REFERENCED_TABLE_NAME IN (?)))
      ORDER BY 1, 2, 3`,
    [scope.database, names, scope.database, names],
  );
  return rows.map(({ name, cdb, ctbl, pdb, ptbl }) => ({
    name,
    child: sqlTable(cdb, ctbl),
    parent: sqlTable(pdb, ptbl),
  }));
}

/**
 * information_schema shows only what the account has a right to; a child table in a database that it may not read
 * shows in InnoDB's own list (needs PROCESS). That list writes names as `database/table` in the encoding of file
 * names; names with other than ASCII characters are left to the first list.
 */
async function hiddenForeignKeys(scope: RuleScope): Promise<ForeignKey[]> {
  const view = scope.flavor === "mysql" ? "INNODB_FOREIGN" : "INNODB_SYS_FOREIGN";
  const names = scope.context.tables.map((table) => `${fileName(scope.database)}/${fileName(table.name)}`);
  const rows = await scope.query<{ id: string; child: string; parent: string }>(
    `SELECT ID AS id, FOR_NAME AS child, REF_NAME AS parent FROM information_schema.${view} WHERE REF_NAME IN (?)`,
    [names],
  );
  return rows.map(({ id, child, parent }) => ({
    name: id.slice(id.indexOf("/") + 1),
    child: fromFileName(child),
    parent: fromFileName(parent),
  }));
}

function fileName(name: string): string {
  return name.replaceAll(
    /[^A-Za-z0-9_]/g,
    (character) => `@${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function fromFileName(path: string): string {
  const [database = "", table = ""] = path
    .split("/")
    .map((part) =>
      part.replaceAll(/@([0-9a-f]{4})/gi, (_, code: string) =>
        String.fromCharCode(Number.parseInt(code, 16)),
      ),
    );
  return sqlTable(database, table);
}
