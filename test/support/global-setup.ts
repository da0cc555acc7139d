/**
 * Runs once before the suites that need servers: finds out which server programs there are, and makes the template
 * data directories, so that no suite's own time limit pays for it.
 */
import type { TestProject } from "vitest/node";
import { ShardliftError } from "../../src/errors/error.ts";
import { type ServerFlavor, findServerBinary } from "../../src/lib/server-binary.ts";
import { ensureTemplate } from "../../src/lib/server-template.ts";
import { askedFlavors } from "./flavors.ts";

declare module "vitest" {
  interface ProvidedContext {
    readonly missingServers: readonly ServerFlavor[];
  }
}

export async function setup(project: TestProject): Promise<void> {
  const missing: ServerFlavor[] = [];
  for (const flavor of askedFlavors()) {
    try {
      await ensureTemplate(await findServerBinary(flavor));
    } catch (error) {
      if (!(error instanceof ShardliftError) || error.code !== "E_SERVER_BINARY") throw error;
      missing.push(flavor);
    }
  }
  project.provide("missingServers", missing);
}
