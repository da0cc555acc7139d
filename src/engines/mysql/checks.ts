import type { Check } from "../engine.ts";
import { changeLog } from "./checks/change-log.ts";
import { durability } from "./checks/durability.ts";
import { foreignKeys } from "./checks/foreign-keys.ts";
import { gtid } from "./checks/gtid.ts";
import { localInfile } from "./checks/local-infile.ts";
import { logRetention } from "./checks/log-retention.ts";
import { nameCase } from "./checks/name-case.ts";
import { packetSize } from "./checks/packet-size.ts";
import { preparedTransactions } from "./checks/prepared-transactions.ts";
import { primaryKey } from "./checks/primary-key.ts";
import { rights } from "./checks/rights.ts";
import { shardKey } from "./checks/shard-key.ts";
import { sharedAccount } from "./checks/shared-account.ts";
import { tables } from "./checks/tables.ts";
import { targetStructure } from "./checks/target-structure.ts";
import { topology } from "./checks/topology.ts";
import { triggerRights } from "./checks/trigger-rights.ts";
import { uniqueKeys } from "./checks/unique-keys.ts";
import { userTriggers } from "./checks/user-triggers.ts";
import { writable } from "./checks/writable.ts";

/**
 * The rules of this engine in the order of the report: rights first, since without them the others can not look; then
 * the servers; then the tables. A new rule is a file in `checks/` and a line here.
 */
export const mysqlChecks: readonly Check[] = [
  rights,
  triggerRights,
  sharedAccount,
  writable,
  topology,
  changeLog,
  gtid,
  logRetention,
  durability,
  preparedTransactions,
  nameCase,
  packetSize,
  localInfile,
  tables,
  primaryKey,
  shardKey,
  foreignKeys,
  userTriggers,
  uniqueKeys,
  targetStructure,
];
