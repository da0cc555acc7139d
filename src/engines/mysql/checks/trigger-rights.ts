import { isGranted, parseGrants } from "./granted.ts";
import { rule } from "./rule.ts";

/** With a binary log, TRIGGER alone is not enough: error 1419 on both servers (facts/gate 4). */
export const triggerRights = rule("trigger-rights", ["source", "target"], async (scope) => {
  const { log_bin_trust_function_creators: trusted, log_bin: log } = await scope.variables(
    "log_bin_trust_function_creators",
    "log_bin",
  );
  // MySQL 9 may drop the variable, and the restriction with it.
  if (trusted === undefined || trusted === "ON" || log !== "ON") return;
  const lines = await scope.query<Record<string, string>>("SHOW GRANTS");
  if (isGranted(parseGrants(lines.map((line) => String(Object.values(line)[0]))), "SUPER")) return;
  scope.blocker(
    "log_bin_trust_function_creators is OFF, and the account does not have SUPER: it may not create the gate's triggers",
    "SET GLOBAL log_bin_trust_function_creators = ON",
  );
});
