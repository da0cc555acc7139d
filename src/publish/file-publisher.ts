import { open, readFile, realpath, stat, writeFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import writeFileAtomic from "write-file-atomic";
import { canonicalJson } from "../control/json.ts";
import { ShardliftError } from "../errors/error.ts";
import type { RoutingMap } from "../model/routing-map.ts";
import { mapDocument, mapDocumentSchema, type MapDocument } from "../routing/map-codec.ts";
import type { Publisher, PublishState, PublishStep } from "./publisher.ts";

/** Others read it: proxies, applications, people. There is no secret in a map. */
const newFileMode = 0o644;

/**
 * Publishes the map as a JSON file (`shardlift.map/v1`) that is replaced whole: written beside, synced, renamed, and
 * the folder synced, so that a reader never sees a part of it and a power cut does not bring an old one back.
 *
 * Refuses to replace what is not a map of this control store: the path may be a mistake.
 */
export class FilePublisher implements Publisher {
  readonly name: string;
  readonly #path: string;
  readonly #storeId: string;

  constructor(options: { readonly path: string; readonly storeId: string }) {
    this.name = `file ${options.path}`;
    this.#path = resolve(options.path);
    this.#storeId = options.storeId;
  }

  preview(from: RoutingMap, to: RoutingMap): readonly PublishStep[] {
    return [
      { what: `replace ${this.#path}: the routing map of epoch ${from.epoch} by that of epoch ${to.epoch}` },
    ];
  }

  async publish(to: RoutingMap, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const standing = await this.#read();
    if (standing.kind === "unreadable") throw this.#failed("could not be read", standing.cause);
    if (standing.kind === "foreign") throw this.#failed(standing.why);
    const wanted = mapDocument(to, this.#storeId);
    if (standing.kind === "map") {
      if (standing.document.epoch > wanted.epoch || isSame(standing.document, wanted)) return;
    }
    try {
      await this.#replace(`${JSON.stringify(wanted, undefined, 2)}\n`);
    } catch (cause) {
      throw this.#failed("could not be written", cause);
    }
  }

  async confirm(to: RoutingMap): Promise<PublishState> {
    const standing = await this.#read();
    switch (standing.kind) {
      case "none":
        return "stale";
      case "map":
        return isSame(standing.document, mapDocument(to, this.#storeId)) ? "applied" : "stale";
      case "foreign":
      case "unreadable":
        return "unknown";
    }
  }

  async #read(): Promise<Standing> {
    let text: string;
    try {
      text = await readFile(this.#path, "utf8");
    } catch (cause) {
      return isMissing(cause) ? { kind: "none" } : { kind: "unreadable", cause };
    }
    // Made empty beforehand, to give it an owner and a mode.
    if (text.trim() === "") return { kind: "none" };
    const document = parse(text);
    if (document === undefined) return { kind: "foreign", why: "exists and is not a routing map" };
    if (document.store === this.#storeId) return { kind: "map", document };
    return {
      kind: "foreign",
      why: `holds the map of another control store (${document.store}); remove it if that store is gone`,
    };
  }

  /**
   * The content is written in the callback: the package's own write takes the first short write for a whole one, so a
   * disk that fills up would put half a map in place; `fs.writeFile` goes on until all is written, or throws.
   */
  async #replace(text: string): Promise<void> {
    // Like the package: an existing file keeps its mode and owner, and a link stays a link to the new content.
    const exists = await stat(this.#path).catch(() => undefined);
    await writeFileAtomic(this.#path, undefined, {
      ...(exists === undefined && { mode: newFileMode }),
      tmpfileCreated: async (path) => writeFile(path, text, { flag: "r+" }),
    });
    const folder = await open(dirname(await realpath(this.#path)), "r");
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  }

  #failed(why: string, cause?: unknown): ShardliftError {
    const detail = cause instanceof Error ? `: ${cause.message}` : "";
    return new ShardliftError("E_PUBLISH", `${this.#path} ${why}${detail}`, { cause, retryable: true });
  }
}

type Standing =
  | { readonly kind: "none" }
  | { readonly kind: "map"; readonly document: MapDocument }
  | { readonly kind: "foreign"; readonly why: string }
  | { readonly kind: "unreadable"; readonly cause: unknown };

function parse(text: string): MapDocument | undefined {
  try {
    return mapDocumentSchema.safeParse(JSON.parse(text)).data;
  } catch {
    // Not JSON: as little a map as JSON of another shape.
    return undefined;
  }
}

function isSame(a: MapDocument, b: MapDocument): boolean {
  return canonicalJson(a) === canonicalJson(b);
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
