import { rule } from "./rule.ts";

/** A row that came into the source in one packet must fit into one at the target (hard-cases D31). */
export const packetSize = rule("packet-size", ["target"], async (scope) => {
  const here = Number((await scope.variables("max_allowed_packet")).max_allowed_packet);
  const there = Number((await scope.peerVariables("max_allowed_packet")).max_allowed_packet);
  if (here >= there) return;
  scope.warning(
    `max_allowed_packet is ${here} bytes, but ${there} at ${scope.peer.server.shard}: its largest rows may not fit`,
    `SET GLOBAL max_allowed_packet = ${there}`,
  );
});
