import { rule, type RuleScope } from "./rule.ts";

/**
 * Rows that arrive by replication pass the gate: row events fire no triggers (facts/gate 1.4), so a source must not
 * be a replica. Clusters with several writers keep locks to one node each (Galera, multi-primary groups): a gate there
 * holds back one node's writers only (facts/pitfalls 2).
 */
export const topology = rule("topology", ["source", "target"], async (scope) => {
  await lookForReplication(scope);
  await lookForClusters(scope);
});

async function lookForReplication(scope: RuleScope): Promise<void> {
  const isMysql = scope.flavor === "mysql";
  const rows = await scope.query<Record<string, string | number | null>>(
    isMysql ? "SHOW REPLICA STATUS" : "SHOW ALL SLAVES STATUS",
  );
  for (const row of rows) {
    const from = `${row["Source_Host"] ?? row["Master_Host"]}:${row["Source_Port"] ?? row["Master_Port"]}`;
    scope.blocker(
      `it is a replica of ${from}: what arrives by replication passes the gate unseen`,
      isMysql
        ? "name the shard's primary, or, if this is it now: STOP REPLICA; RESET REPLICA ALL"
        : "name the shard's primary, or, if this is it now: STOP ALL SLAVES; RESET SLAVE ALL",
    );
  }
}

async function lookForClusters(scope: RuleScope): Promise<void> {
  const variables = await scope.variables("wsrep_on", "group_replication_single_primary_mode");
  if (variables.wsrep_on === "ON") {
    scope.blocker(
      "it is a node of a Galera cluster, where locks hold on one node only",
      "move to and from servers without wsrep",
    );
  }
  if (variables.group_replication_single_primary_mode !== "OFF") return;
  const members = await scope.query(
    "SELECT MEMBER_ID AS id FROM performance_schema.replication_group_members WHERE MEMBER_STATE = 'ONLINE'",
  );
  if (members.length === 0) return;
  scope.blocker(
    "it is in a multi-primary replication group, where locks hold on one member only",
    "SELECT group_replication_switch_to_single_primary_mode()",
  );
}
