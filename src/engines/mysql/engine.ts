import type { Engine } from "../engine.ts";
import { mysqlChecks } from "./checks.ts";
import { MysqlSession } from "./session.ts";

/** MySQL and MariaDB: one engine with two dialects, told apart by `ServerFacts.flavor`. */
export const mysqlEngine: Engine = {
  name: "mysql",
  open: (endpoint, options) => MysqlSession.open(endpoint, options),
  checks: mysqlChecks,
};
