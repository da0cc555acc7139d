import { randomUUID } from "node:crypto";
import { z } from "zod";
import { hostIdentity, isSurelyDead, thisProcess, type HostIdentity } from "./host-identity.ts";

/** The process that works on a job, as the store names it to others. */
export const runnerSchema = z.strictObject({
  id: z.string().min(1),
  host: z.string(),
  process: z.strictObject({
    bootId: z.string(),
    pidNamespace: z.string(),
    pid: z.int(),
    startTicks: z.string(),
  }),
});

export type Runner = z.infer<typeof runnerSchema>;

export function thisRunner(host: HostIdentity = hostIdentity()): Runner {
  return { id: randomUUID(), host: host.hostName, process: thisProcess(host) };
}

/** Its process is gone for certain, seen from here; its lease need not be waited for. */
export function isRunnerDead(runner: Runner, host: HostIdentity = hostIdentity()): boolean {
  return isSurelyDead(runner.process, host);
}

export function runnerName(runner: Runner): string {
  return `process ${runner.process.pid} on ${runner.host}`;
}
