import type { Check, CheckContext, Finding } from "../../engines/engine.ts";

/** Both ends of a move keep rows of the same job in the server's helper tables; on one server they would mix. */
export const distinctServers: Check = {
  name: "distinct-servers",
  roles: ["target"],
  code: "E_PREFLIGHT",
  run: (context) => Promise.resolve(findings(context)),
};

function findings({ session, peer }: CheckContext): Finding[] {
  if (session.server.id !== peer.server.id) return [];
  return [
    {
      check: "distinct-servers",
      level: "blocker",
      where: `${session.server.shard} (${session.server.address})`,
      why: `it is the same server as ${peer.server.shard} (${peer.server.address}): both are ${session.server.id}`,
      fix: "name another server for one of the two shards",
    },
  ];
}
