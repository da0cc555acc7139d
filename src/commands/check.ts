import { Flags } from "@oclif/core";
import { BaseCommand } from "../cli/base-command.ts";
import { currentOrFirstMap, openReadOnlyStore, serverAccess } from "../cli/deps.ts";
import type { Finding } from "../engines/engine.ts";
import { ShardliftError } from "../errors/error.ts";
import { preflightReport } from "../job/plan-checks.ts";
import { openSessions } from "../job/sessions.ts";
import { keyspaceOf, ownedSlice, type RoutingMap } from "../model/routing-map.ts";
import type { Config } from "../config/config.ts";
import { PreflightError } from "../preflight/preflight.ts";

export class Check extends BaseCommand {
  static override readonly summary = "Look for everything that would stop a job; changes nothing.";
  static override readonly description =
    "Every finding with its place, the reason and the SQL that mends it. Exit 3 when something would stop a job.";
  static override readonly examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --source s0 --target s1",
  ];
  static override readonly flags = {
    source: Flags.string({
      description: "The shard to move from; default: every shard that owns something.",
    }),
    target: Flags.string({
      description: "The shard to move to; default: every shard that owns nothing, or all of them.",
    }),
    keyspace: Flags.string({ description: "Default: every keyspace.", helpValue: "K" }),
  };

  override async run(): Promise<void> {
    const { flags } = await this.parse(Check);
    const signal = this.interruptSignal();
    const { config, warnings } = await this.loadConfig(flags);
    await using stack = new AsyncDisposableStack();
    const store = await openReadOnlyStore(config);
    if (store !== undefined) stack.defer(() => store.close());
    const map = await currentOrFirstMap(config, store);
    const access = serverAccess(config, this.secrets);
    const findings: Finding[] = [];
    for (const keyspace of flags.keyspace === undefined ? Object.keys(map.keyspaces) : [flags.keyspace]) {
      const plan = { keyspace, before: map, moves: movesToCheck(config, map, keyspace, flags) };
      await using sessions = await openSessions(access, plan, undefined);
      const report = await preflightReport(access, plan, sessions.all, { storeId: store?.storeId, signal });
      findings.push(...report.findings);
    }
    const blockers = findings.filter(({ level }) => level === "blocker");
    if (blockers.length > 0) throw new PreflightError(findings, "E_PREFLIGHT");
    this.print(flags, {
      text: findingsText(findings),
      data: { findings },
      warnings,
      nextSteps: ["shardlift plan split SHARD --into A,B"],
    });
  }
}

/** What may be moved where: from each owner to each shard that has nothing yet, or as the flags say. */
function movesToCheck(
  config: Config,
  map: RoutingMap,
  keyspaceName: string,
  flags: { readonly source?: string | undefined; readonly target?: string | undefined },
) {
  const keyspace = keyspaceOf(map, keyspaceName);
  const names = Object.keys(config.shards);
  const owned = (shard: string): ReturnType<typeof ownedSlice> => ownedSlice(keyspace, shard);
  for (const shard of [flags.source, flags.target]) {
    if (shard !== undefined && !names.includes(shard)) {
      throw new ShardliftError("E_USAGE", `no shard "${shard}" in ${config.path}`, {
        next: `use one of: ${names.join(", ")}`,
      });
    }
  }
  const sources =
    flags.source === undefined ? names.filter((name) => owned(name).length > 0) : [flags.source];
  const empty = names.filter((name) => owned(name).length === 0);
  const anyTarget = empty.length > 0 ? empty : names;
  const targets = flags.target === undefined ? anyTarget : [flags.target];
  const pairs = sources.flatMap((from) => targets.filter((to) => to !== from).map((to) => ({ from, to })));
  if (pairs.length === 0) {
    throw new ShardliftError("E_USAGE", `keyspace ${keyspaceName} has no shard that could take a part`, {
      next: "name both ends: --source A --target B",
    });
  }
  return pairs.map(({ from, to }) => ({ id: `${from}-${to}`, from, to, slice: owned(from) }));
}

function findingsText(findings: readonly Finding[]): string {
  const count = (level: Finding["level"]): number =>
    findings.filter((finding) => finding.level === level).length;
  const told = findings.filter(({ level }) => level !== "ok");
  return [
    `✔ ${count("ok")} ok, ${count("warning")} warnings, ${count("blocker")} blockers`,
    ...told.map(
      ({ level, check, where, why, fix }) =>
        `${level}: ${check}: ${where}: ${why}${fix === "" ? "" : `\n    fix: ${fix}`}`,
    ),
  ].join("\n");
}
