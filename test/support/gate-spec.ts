/** A gate over two tables, and runners that work on it. Free of vitest: a child process uses it too. */
import type { Claim, Gates, GateSpec, HeldGate } from "../../src/engines/engine.ts";
import { Connector } from "../../src/engines/mysql/connect.ts";
import type { GateLimits } from "../../src/engines/mysql/gate-row.ts";
import { openGates } from "../../src/engines/mysql/gates.ts";
import type { MysqlColumn, MysqlTable } from "../../src/engines/mysql/table.ts";
import { boundAt, MAX, type KeyType } from "../../src/model/key.ts";
import type { Slice } from "../../src/model/slice.ts";

export const database = "shop";

/** Everything from 100 on moves. */
const slice: Slice = [{ from: boundAt("100"), to: MAX }];

export const orders = tableShape("orders", "user_id");
export const items = tableShape("items", "buyer_id");

export const gateSpec: GateSpec = { role: "gate", tables: [orders, items], slice, owned: [], afterEpoch: 41 };

/** A shape with what the gate looks at: name, shard key and its type. */
export function tableShape(
  name: string,
  shardKey: string,
  keyType: KeyType = "integer",
  dataType = "bigint",
): MysqlTable {
  const column: MysqlColumn = {
    name: shardKey,
    dataType,
    columnType: dataType,
    unsigned: false,
    nullable: false,
    charset: undefined,
    collation: undefined,
    octetLength: undefined,
    precision: undefined,
    scale: undefined,
    fraction: undefined,
    generated: undefined,
    invisible: false,
    autoIncrement: false,
  };
  return {
    name,
    shardKey,
    keyType,
    primaryKey: ["id"],
    keyOrder: "client",
    secondaryUniqueKeys: [],
    estimatedRows: 0,
    estimatedBytes: 0,
    fingerprint: "",
    // Not this server's name: shapes come from the other shard too.
    detail: {
      database: "elsewhere",
      columns: [column],
      createSql: "",
      deferrableIndexes: [],
      uniqueKeys: [],
    },
  };
}

export interface Runner extends AsyncDisposable {
  readonly claim: Claim;
  readonly gates: Gates;
}

/** A runner as it stands, whatever the server thinks of its token. */
export async function joinJob(
  address: { readonly host: string; readonly port: number; readonly password: string },
  claim: Claim,
  limits: Partial<GateLimits> = {},
): Promise<Runner> {
  const { host, port, password } = address;
  const endpoint = { shard: "s0", hosts: [{ host, port }], user: "shardlift", password, database };
  const connector = await Connector.open(endpoint, { signal: new AbortController().signal, claim });
  const gates = await openGates(connector, claim, limits);
  return { claim, gates, [Symbol.asyncDispose]: () => connector.closeAll() };
}

/** Tries again like the cutover does. */
export async function close(gates: Gates, spec: GateSpec = gateSpec, boundMs = 20_000): Promise<HeldGate> {
  const deadline = performance.now() + boundMs;
  for (;;) {
    const attempt = await gates.tryClose(spec, 100);
    if (!("blockers" in attempt)) return attempt;
    if (performance.now() > deadline)
      throw new Error(`the gate did not close: ${attempt.blockers.join("; ")}`);
  }
}
