import { expect, test } from "vitest";
import { classify, type LoggedStatement, type Statement } from "../../src/engines/mysql/log/statement.ts";

const scope = { database: "shop", tables: new Set(["orders"]) };

function classified(sql: string, options: Partial<LoggedStatement> = {}): Statement {
  return classify({ sql, isUtf8: true, database: "shop", noBackslashEscapes: false, ...options }, scope);
}

/** `ok`, or the code with which the job stops. */
function verdict(sql: string, options: Partial<LoggedStatement> = {}): string {
  const statement = classified(sql, options);
  return statement.kind === "stop" ? statement.code : statement.kind;
}

const harmless: readonly string[] = [
  "GRANT SELECT ON shop.orders TO app@'%'",
  "SET PASSWORD FOR app@'%' = 'x'",
  "SET DEFAULT ROLE r FOR app@'%'",
  "FLUSH TABLES",
  "ANALYZE TABLE orders",
  "ANALYZE NO_WRITE_TO_BINLOG TABLE orders",
  "analyze local tables orders",
  "OPTIMIZE TABLE orders",
  "CHECK TABLE orders",
  "INSTALL PLUGIN p SONAME 'p.so'",
  "SET STATEMENT lock_wait_timeout=1 FOR TRUNCATE TABLE other",
  "SET STATEMENT lock_wait_timeout=1, max_statement_time=2 FOR ANALYZE TABLE orders",
  "SET STATEMENT lock_wait_timeout=1 FOR ALTER TABLE other ADD COLUMN c INT",
  "/*!40000 ALTER TABLE `other` DISABLE KEYS */",
  "CREATE DATABASE /*!32312 IF NOT EXISTS*/ x /*!40100 DEFAULT CHARACTER SET utf8mb4 */",
  "CREATE TABLE other (id INT) /*!50100 PARTITION BY HASH (id) */",
  "/*!50003 CREATE*/ /*!50017 DEFINER=`root`@`localhost`*/ /*!50003 TRIGGER t BEFORE INSERT ON other FOR EACH ROW SET @a = 1 */",
  "CREATE TEMPORARY TABLE orders (id INT)",
  "  \n /* a comment */ DROP TABLE other",
];

test.each(harmless)("passes by: %s", (sql) => {
  expect(verdict(sql)).toBe("harmless");
});

const stops: readonly (readonly [code: string, sql: string])[] = [
  ["E_DDL", "SET STATEMENT lock_wait_timeout=1 FOR TRUNCATE TABLE orders"],
  ["E_DDL", "set statement max_statement_time=1.5, lock_wait_timeout = 2 for alter table orders add c int"],
  ["E_DDL", "SET STATEMENT a=1 FOR SET STATEMENT b=2 FOR DROP TABLE orders"],
  ["E_DDL", "/* x */ SET /* y */ STATEMENT a=1 FOR /*!50000 TRUNCATE */ orders"],
  ["E_STATEMENT_LOGGED", "SET STATEMENT lock_wait_timeout=1 FOR UPDATE orders SET v = 1"],
  ["E_STATEMENT_LOGGED", "SET STATEMENT lock_wait_timeout=1 FOR INSERT INTO orders VALUES (1)"],
  ["E_STATEMENT_LOGGED", "SET STATEMENT lock_wait_timeout=1 FOR DELETE FROM other"],
  ["E_STATEMENT_LOGGED", "SET STATEMENT a=SUBSTRING('12' FROM 1 FOR 1) FOR FLUSH TABLES"],
  ["E_STATEMENT_LOGGED", "SET STATEMENT sql_mode='NO_BACKSLASH_ESCAPES' FOR FLUSH TABLES"],
  ["E_STATEMENT_LOGGED", "SET STATEMENT a=1"],
  ["E_STATEMENT_LOGGED", "SET STATEMENT a=1 FOR COMMIT"],
  ["E_STATEMENT_LOGGED", "SET STATEMENT a=1 FOR BEGIN NOT ATOMIC UPDATE orders SET v = 1; END"],
  ["E_STATEMENT_LOGGED", "SET @a = f()"],
  ["E_STATEMENT_LOGGED", "SET DEFAULT x = 1"],
  ["E_STATEMENT_LOGGED", "ANALYZE UPDATE orders SET v = 1"],
  ["E_STATEMENT_LOGGED", "ANALYZE FORMAT=JSON DELETE FROM orders"],
  ["E_STATEMENT_LOGGED", "ANALYZE INSERT INTO orders SELECT * FROM other"],
  ["E_STATEMENT_LOGGED", "ANALYZE LOCAL UPDATE orders SET v = 1"],
  ["E_STATEMENT_LOGGED", "OPTIMIZE something"],
  ["E_STATEMENT_LOGGED", "WITH c AS (SELECT 1) UPDATE orders SET v = 1"],
  ["E_STATEMENT_LOGGED", "(INSERT INTO orders VALUES (1))"],
  ["E_STATEMENT_LOGGED", "BEGIN NOT ATOMIC UPDATE orders SET v = 1; END"],
  ["E_STATEMENT_LOGGED", "START SOMETHING"],
  ["E_STATEMENT_LOGGED", "IF 1 THEN UPDATE orders SET v = 1; END IF"],
  ["E_STATEMENT_LOGGED", "CALL p()"],
  ["E_STATEMENT_LOGGED", "DO f()"],
  ["E_STATEMENT_LOGGED", "LOAD DATA INFILE 'x' INTO TABLE orders"],
  ["E_STATEMENT_LOGGED", "HANDLER orders OPEN"],
  ["E_STATEMENT_LOGGED", "EXECUTE IMMEDIATE 'UPDATE orders SET v = 1'"],
  ["E_STATEMENT_LOGGED", "REPLACE INTO other VALUES (1)"],
  ["E_STATEMENT_LOGGED", "/*!50000 UPDATE */ orders SET v = 1"],
  ["E_STATEMENT_LOGGED", "/*!99999 FLUSH */ UPDATE orders SET v = 1"],
  ["E_STATEMENT_LOGGED", "/*!999999 FLUSH */ /*!00000 UPDATE orders SET v = 1 */"],
  ["E_STATEMENT_LOGGED", "/*M!100100 FLUSH */ UPDATE orders SET v = 1"],
  ["E_STATEMENT_LOGGED", "/*!80000 FLUSH */ /*!100100 UPDATE orders SET v = 1 */"],
  ["E_STATEMENT_LOGGED", "FLUSH TABLES; UPDATE orders SET v = 1"],
  ["E_STATEMENT_LOGGED", ""],
  ["E_DDL", "CREATE DEFINER=event@localhost TRIGGER t BEFORE INSERT ON orders FOR EACH ROW SET @a = 1"],
  ["E_DDL", "/*!40000 ALTER TABLE `orders` DISABLE KEYS */"],
];

test.each(stops)("stops with %s at: %s", (code, sql) => {
  expect(verdict(sql)).toBe(code);
});

test("stops at a statement in another character set behind SET STATEMENT when it may concern the table", () => {
  const foreign = { isUtf8: false };
  expect(verdict("SET STATEMENT a=1 FOR TRUNCATE TABLE `caf\u00e9`.orders", foreign)).toBe("E_DDL");
  expect(verdict("SET STATEMENT a=1 FOR UPDATE `caf\u00e9` SET v = 1", foreign)).toBe("E_STATEMENT_LOGGED");
});

test.each([
  ["begin", "BEGIN"],
  ["begin", "BEGIN WORK"],
  ["begin", "START TRANSACTION"],
  ["begin", "START TRANSACTION WITH CONSISTENT SNAPSHOT"],
  ["commit", "COMMIT"],
  ["rollback", "ROLLBACK"],
  ["rollback", "ROLLBACK WORK"],
  ["savepoint", "ROLLBACK TO `s`"],
  ["savepoint", "ROLLBACK WORK TO SAVEPOINT s"],
  ["savepoint", "SAVEPOINT `s`"],
])("reads the frame of a transaction as %s: %s", (kind, sql) => {
  expect(verdict(sql)).toBe(kind);
});
