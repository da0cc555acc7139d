import { rule } from "./rule.ts";

/** A server that refuses writes is a replica, or about to become one: neither end of a move. */
export const writable = rule("writable", ["source", "target"], async (scope) => {
  const variables = await scope.variables("read_only", "super_read_only", "innodb_read_only");
  for (const [name, value] of Object.entries(variables)) {
    // MariaDB 12 writes NO_LOCK and the like; anything but off is a refusal.
    if (value === "OFF" || value === "0") continue;
    scope.blocker(
      `${name} is ${value}: the server does not take writes`,
      name === "innodb_read_only"
        ? "restart the server without innodb_read_only, or name the shard's primary"
        : `name the shard's primary, or, if this is it: SET GLOBAL ${name} = OFF`,
    );
  }
});
