import type { Check, CheckContext, Finding } from "../../engines/engine.ts";

/**
 * Two control stores know nothing of each other's jobs: both could move the same rows to different places
 * (facts/pitfalls 31). Jobs of one store keep off each other's slices in the store itself.
 */
export const foreignStore: Check = {
  name: "foreign-store",
  roles: ["source", "target"],
  code: "E_JOB_HELD",
  run: findings,
};

async function findings({ session, storeId }: CheckContext): Promise<Finding[]> {
  const claims = await session.ledger.claims();
  return claims
    .filter((claim) => claim.storeId !== storeId)
    .map((claim) => ({
      check: "foreign-store",
      level: "blocker",
      where: `${session.server.shard} (${session.server.address})`,
      why: `job ${claim.job} of another control store (${claim.storeId}) is at work here`,
      fix: `finish or abort that job with its own control store; if the store is lost for good and no runner lives: DELETE FROM _shardlift.lease WHERE job = '${claim.job}'`,
    }));
}
