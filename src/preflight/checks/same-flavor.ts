import type { Check, CheckContext, Finding } from "../../engines/engine.ts";

/** The text of a value differs between server products (JSON, above all), and chunk hashes are made of texts. */
export const sameFlavor: Check = {
  name: "same-flavor",
  roles: ["target"],
  code: "E_PREFLIGHT",
  run: (context) => Promise.resolve(findings(context)),
};

function findings({ session, peer }: CheckContext): Finding[] {
  if (session.server.flavor === peer.server.flavor) return [];
  return [
    {
      check: "same-flavor",
      level: "blocker",
      where: `${session.server.shard} (${session.server.address})`,
      why: `it is ${session.server.flavor} ${session.server.version}, but ${peer.server.shard} is ${peer.server.flavor} ${peer.server.version}`,
      fix: "move between servers of one product",
    },
  ];
}
