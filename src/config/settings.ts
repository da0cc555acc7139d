import type { ConfigPath } from "./document.ts";

/**
 * Settings that the environment and the flags can override: flags > SHARDLIFT_* > file > defaults. They are laid
 * over the file's data before it is checked, so one schema checks all three and a problem names the flag.
 */
export type SettingName = "rate" | "threads" | "cutover" | "max-pause" | "max-lag" | "reverse-window";

export type SettingTexts = { readonly [Name in SettingName]?: string | undefined };

const paths: Readonly<Record<SettingName, readonly [section: string, key: string]>> = {
  rate: ["copy", "rate"],
  threads: ["copy", "threads"],
  cutover: ["cutover", "mode"],
  "max-pause": ["cutover", "maxPause"],
  "max-lag": ["cutover", "maxLag"],
  "reverse-window": ["rollback", "reverseWindow"],
};

export interface Overlaid {
  readonly data: unknown;
  /** The flag or the variable that a value came from; undefined when it stands in the file. */
  originOf(path: ConfigPath): string | undefined;
}

export function overlaySettings(data: unknown, env: NodeJS.ProcessEnv, flags: SettingTexts): Overlaid {
  const origins = new Map<string, string>();
  if (typeof data !== "object" || data === null || Array.isArray(data))
    return { data, originOf: () => undefined };
  const result: Record<string, unknown> = { ...data };
  for (const [name, [section, key]] of Object.entries(paths) as [SettingName, readonly [string, string]][]) {
    const variable = variableOf(name);
    const [text, origin] = flags[name] === undefined ? [env[variable], variable] : [flags[name], `--${name}`];
    if (text === undefined || text === "") continue;
    const before = result[section] ?? {};
    // A section that is no mapping is a problem of its own; leave it for the schema to find.
    if (typeof before !== "object" || Array.isArray(before)) continue;
    result[section] = { ...before, [key]: name === "threads" && /^\d+$/.test(text) ? Number(text) : text };
    origins.set(`${section}.${key}`, origin);
  }
  return { data: result, originOf: (path) => origins.get(path.map(String).join(".")) };
}

/** `max-pause` → `SHARDLIFT_MAX_PAUSE`. */
export function variableOf(name: SettingName): string {
  return `SHARDLIFT_${name.toUpperCase().replaceAll("-", "_")}`;
}
