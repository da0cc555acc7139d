import { type ServerFlavor, programs } from "../../src/lib/server-binary.ts";

const all: readonly ServerFlavor[] = ["mariadb", "mysql"];

/** What SHARDLIFT_TEST_FLAVORS asks for (comma separated), or both. A misspelt name is an error, not fewer tests. */
export function askedFlavors(): readonly ServerFlavor[] {
  const asked = (process.env["SHARDLIFT_TEST_FLAVORS"] ?? "").split(",").map((name) => name.trim());
  const names = asked.filter((name) => name !== "");
  const unknown = names.filter((name) => !(name in programs));
  if (unknown.length > 0) {
    throw new Error(`SHARDLIFT_TEST_FLAVORS: unknown ${unknown.join(", ")}; accepted: ${all.join(", ")}`);
  }
  return names.length === 0 ? all : all.filter((flavor) => names.includes(flavor));
}
