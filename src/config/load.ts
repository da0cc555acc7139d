import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { InputError, type Problem } from "../errors/error.ts";
import { toConfig, type Config } from "./config.ts";
import { checkCredentials } from "./credentials.ts";
import { parseConfigDocument } from "./document.ts";
import { schemaProblems, type PlaceFinder } from "./problems.ts";
import { ruleProblems, soundParts } from "./rules.ts";
import { configFile, withoutEmptySections } from "./schema.ts";
import { overlaySettings, type SettingTexts } from "./settings.ts";

export interface LoadedConfig {
  readonly config: Config;
  /** What is allowed but unwise, each with its place. */
  readonly warnings: readonly string[];
}

/**
 * Reads and checks the configuration: flags over SHARDLIFT_* over the file over defaults. Throws InputError
 * (E_CONFIG) with every problem at once, in the order of the file; then nothing else has been touched.
 */
export async function loadConfig(
  path: string,
  env: NodeJS.ProcessEnv,
  flags: SettingTexts = {},
): Promise<LoadedConfig> {
  const document = parseConfigDocument(await readText(path), path);
  if (!document.readable) throw new InputError("E_CONFIG", document.problems);

  const overlaid = overlaySettings(withoutEmptySections(document.data ?? {}), env, flags);
  const { data } = overlaid;
  const places: PlaceFinder = {
    placeOf: (at) => overlaid.originOf(at) ?? document.placeOf(at),
    placeOfKey: (at, key) => document.placeOfKey(at, key),
  };
  const parsed = configFile.safeParse(data);
  const parts = soundParts(data);
  const directory = dirname(resolve(path));
  const credentials = await checkCredentials(parts, { places, directory, env });
  const problems = [
    ...document.problems,
    ...(parsed.success ? [] : schemaProblems(parsed.error.issues, data, places)),
    ...ruleProblems(parts, places),
    ...credentials.problems,
  ];
  if (!parsed.success || problems.length > 0) throw new InputError("E_CONFIG", inFileOrder(problems));
  return { config: toConfig(parsed.data, path, directory), warnings: credentials.warnings };
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    const found = code === "ENOENT" ? "there is no such file" : `the file can not be read (${code})`;
    const accepted = "a configuration file (--config, SHARDLIFT_CONFIG, or shardlift.yaml in this directory)";
    throw new InputError("E_CONFIG", [{ where: path, found, accepted }]);
  }
}

/** By line and column; what comes from a flag or a variable goes last. */
function inFileOrder(problems: readonly Problem[]): Problem[] {
  const position = ({ where }: Problem): number => {
    const [, line, column] = /:(\d+):(\d+)$/.exec(where) ?? [];
    return line === undefined ? Number.MAX_SAFE_INTEGER : Number(line) * 10_000 + Number(column);
  };
  return problems.toSorted((a, b) => position(a) - position(b));
}
