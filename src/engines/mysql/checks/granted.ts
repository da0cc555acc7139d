/**
 * Reads SHOW GRANTS and answers whether a right is there. Pure.
 * Both servers print one line for each level: `GRANT SELECT, INSERT (a) ON `shop`.* TO …`; lines of active roles are
 * among them (measured on MySQL 9.7 and MariaDB 10.11). A right on single columns does not count.
 */
export interface Granted {
  readonly rights: ReadonlySet<string>;
  /** Pattern of the database as in LIKE; `*` at the global level. */
  readonly database: string;
  readonly table: string;
}

export function parseGrants(lines: readonly string[]): Granted[] {
  return lines.flatMap((line) => {
    // A role that was granted (`GRANT r TO u`) has no level; its rights have lines of their own.
    const match = /^GRANT (.+) ON (?:TABLE )?(\*|`(?:[^`]|``)+`)\.(\*|`(?:[^`]|``)+`) TO /.exec(line);
    if (match === null) return [];
    const [, rights = "", database = "", table = ""] = match;
    const words = rights.replaceAll(/\s*\([^)]*\)/g, " (columns)").split(",");
    return [
      {
        rights: new Set(words.map((word) => word.trim().toUpperCase())),
        database: unquote(database),
        table: unquote(table),
      },
    ];
  });
}

function unquote(name: string): string {
  return name === "*" ? name : name.slice(1, -1).replaceAll("``", "`");
}

/**
 * Whether the right holds for all tables of a database, or globally when no database is named. Where several grants
 * match a database, the servers look at the most specific one alone (measured: SELECT on `shop_1` is void once there
 * is an INSERT on `shop\_1`).
 */
export function isGranted(grants: readonly Granted[], right: string, database?: string): boolean {
  const global = grants.filter((grant) => grant.database === "*");
  const [nearest] = grants
    .filter((grant) => database !== undefined && grant.database !== "*" && matches(grant.database, database))
    .filter((grant) => grant.table === "*")
    .toSorted((a, b) => plainLength(b.database) - plainLength(a.database));
  const effective = nearest === undefined ? global : [...global, nearest];
  return effective.some(({ rights }) => rights.has(right) || rights.has("ALL PRIVILEGES"));
}

/** How far a pattern is a plain name; a pattern without wildcards beats all others. */
function plainLength(pattern: string): number {
  const at = pattern.replaceAll(/\\./gs, "x").search(/[_%]/);
  return at < 0 ? Number.POSITIVE_INFINITY : at;
}

/** Database names in grants are LIKE patterns, with `\_` for a plain underscore (manual, GRANT). */
function matches(pattern: string, database: string): boolean {
  const source = pattern.replaceAll(
    /\\(.)|([_%])|([^A-Za-z0-9])/gs,
    (_, escaped?: string, wild?: string, other?: string) => {
      if (wild !== undefined) return wild === "_" ? "." : ".*";
      return literal(escaped ?? other ?? "");
    },
  );
  return new RegExp(`^${source}$`, "su").test(database);
}

function literal(character: string): string {
  return /[A-Za-z0-9]/.test(character) ? character : `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
}
