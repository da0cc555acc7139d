import { stat, access, constants } from "node:fs/promises";
import type { Problem } from "../errors/error.ts";
import { passwordSource } from "./config.ts";
import type { ConfigPath } from "./document.ts";
import type { PlaceFinder } from "./problems.ts";
import type { SoundParts } from "./rules.ts";

/**
 * Looks whether each password can be read when it is needed, without reading one. A job that finds out after an hour
 * of copying that the target's password file is missing has wasted that hour.
 */
export interface CredentialFindings {
  readonly problems: readonly Problem[];
  readonly warnings: readonly string[];
}

export async function checkCredentials(
  { shards }: SoundParts,
  context: { readonly places: PlaceFinder; readonly directory: string; readonly env: NodeJS.ProcessEnv },
): Promise<CredentialFindings> {
  const problems: Problem[] = [];
  const warnings: string[] = [];
  for (const [name, shard] of Object.entries(shards)) {
    const at = (...path: ConfigPath): string => context.places.placeOf(["shards", name, ...path]);
    if (shard.password !== undefined && shard.passwordFile !== undefined) {
      problems.push({
        where: at("password"),
        found: `shards.${name} has both password and passwordFile`,
        accepted: "one of them",
      });
      continue;
    }
    const source = passwordSource(shard, context.directory);
    if (source.from === "nowhere") {
      warnings.push(
        `${at()}: shards.${name} has neither passwordFile nor password; it connects without a password`,
      );
    } else if (source.from === "env") {
      if ((context.env[source.name] ?? "") !== "") continue;
      problems.push({
        where: at("password"),
        found: `the environment variable ${source.name} is not set, or empty`,
        accepted: `${source.name} with the password for shard ${name}`,
      });
    } else {
      const found = await whyUnreadable(source.path);
      if (found !== undefined) {
        problems.push({
          where: at("passwordFile"),
          found,
          accepted: "the path of a file that holds the password only",
        });
      } else if (await othersCanRead(source.path)) {
        warnings.push(
          `${at("passwordFile")}: the password file ${source.path} can be read by others; run: chmod 600 ${source.path}`,
        );
      }
    }
  }
  return { problems, warnings };
}

async function whyUnreadable(path: string): Promise<string | undefined> {
  try {
    const info = await stat(path);
    // A pipe (`<(pass show db)`) has no size and can be read once only: it must not be opened here.
    if (info.isDirectory()) return `the password file ${path} is a directory`;
    if (info.isFile() && info.size === 0) return `the password file ${path} is empty`;
    await access(path, constants.R_OK);
    return undefined;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    if (code === "ENOENT" || code === "ENOTDIR") return `there is no password file ${path}`;
    if (code === "EACCES" || code === "EPERM")
      return `the password file ${path} may not be read by this user`;
    throw error;
  }
}

async function othersCanRead(path: string): Promise<boolean> {
  const info = await stat(path);
  return info.isFile() && (info.mode & 0o044) !== 0;
}
