import { readFileSync } from "node:fs";
import type { Endpoint } from "../engines/engine.ts";
import { InputError, ShardliftError } from "../errors/error.ts";
import { closest } from "../lib/closest.ts";
import type { Secrets } from "../lib/redact.ts";
import type { Config, PasswordSource } from "./config.ts";

/**
 * Where a shard's servers are, with the password, read at the moment of use: a rotated password is picked up by the
 * next connection. What was read goes into `secrets` before anything else can happen to it.
 */
export function resolveEndpoint(
  config: Config,
  shard: string,
  { secrets, env = process.env }: { readonly secrets: Secrets; readonly env?: NodeJS.ProcessEnv },
): Endpoint {
  const found = config.shards[shard];
  if (found === undefined) {
    const names = Object.keys(config.shards);
    const word = closest(shard, names);
    throw new ShardliftError("E_USAGE", `${config.path} has no shard "${shard}"`, {
      next:
        word === undefined
          ? `use one of: ${names.join(", ")}`
          : `did you mean "${word}"? Shards: ${names.join(", ")}`,
    });
  }
  const password = readPassword(found.password, env);
  secrets.add(password);
  return { shard, hosts: found.hosts, user: found.user, password, database: found.database };
}

function readPassword(source: PasswordSource, env: NodeJS.ProcessEnv): string {
  switch (source.from) {
    case "nowhere":
      return "";
    case "env": {
      const password = env[source.name] ?? "";
      if (password !== "") return password;
      throw new InputError("E_CONFIG", [
        {
          where: source.name,
          found: "the environment variable is not set, or empty",
          accepted: "the password",
        },
      ]);
    }
    case "file":
      try {
        // Editors and `echo` end a file with a line break; it is not part of the password.
        return readFileSync(source.path, "utf8").replace(/\r?\n$/, "");
      } catch (error) {
        const code = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
        throw new InputError("E_CONFIG", [
          {
            where: source.path,
            found: `the password file can not be read (${code})`,
            accepted: "a readable file",
          },
        ]);
      }
  }
}
