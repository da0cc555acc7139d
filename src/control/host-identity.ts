import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";
import { ShardliftError } from "../errors/error.ts";

/**
 * Which machine, which boot and which process namespace this is: what a one-host store must know before it trusts a
 * lock, a clock or a process id. Linux only, because nothing portable tells two hosts or two boots apart.
 */
export interface HostIdentity {
  readonly hostName: string;
  /** The installation; survives a reboot. The host's name where there is no machine id (containers). */
  readonly hostId: string;
  /** The running kernel: equal on two sides ⇔ same machine since the same boot. */
  readonly bootId: string;
  /** Process ids mean something only inside one namespace: a container sees its neighbour's processes as dead. */
  readonly pidNamespace: string;
}

export function hostIdentity(): HostIdentity {
  const bootId = readLine("/proc/sys/kernel/random/boot_id");
  if (bootId === undefined) {
    throw new ShardliftError(
      "E_CONTROL_STORE",
      `an SQLite control store needs Linux (boot id); this is ${process.platform}`,
    );
  }
  return {
    hostName: hostname(),
    hostId: readLine("/etc/machine-id") ?? hostname(),
    bootId,
    pidNamespace: readlinkSync("/proc/self/ns/pid"),
  };
}

/** A process as a later one can look for it. */
export interface ProcessIdentity {
  readonly bootId: string;
  readonly pidNamespace: string;
  readonly pid: number;
  /** Kernel ticks since boot: a process id that was given out again has another start. */
  readonly startTicks: string;
}

export function thisProcess(host: HostIdentity): ProcessIdentity {
  return {
    bootId: host.bootId,
    pidNamespace: host.pidNamespace,
    pid: process.pid,
    startTicks: startTicks(process.pid) ?? "",
  };
}

/** True only when it is certain; a process of another namespace or host may always be alive. */
export function isSurelyDead(it: ProcessIdentity, host: HostIdentity): boolean {
  if (it.bootId !== host.bootId || it.pidNamespace !== host.pidNamespace) return false;
  return startTicks(it.pid) !== it.startTicks;
}

/** Field 22 of /proc/pid/stat (proc_pid_stat(5)); undefined without such a process or for a zombie. */
function startTicks(pid: number): string | undefined {
  const stat = readLine(`/proc/${pid}/stat`);
  // The second field is the command's name in parentheses and may hold anything.
  const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields?.[0] === "Z" || fields?.[0] === "X" ? undefined : fields?.[19];
}

function readLine(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim() || undefined;
  } catch {
    return undefined;
  }
}
