/** Where a local server listens and keeps its data, and the command line that says so. */
import { mkdir, mkdtemp, realpath } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ShardliftError } from "../errors/error.ts";
import type { ServerFlavor } from "./server-binary.ts";
import { asRoot } from "./server-template.ts";

export interface Place {
  readonly datadir: string;
  /** Of this server alone: MariaDB clears the temporary tables of every server that shares the folder when it starts. */
  readonly temporary: string;
  readonly port: number;
  readonly socket: string;
  /** A folder made for the socket alone, because its path beside the data would be too long. */
  readonly socketFolder: string | undefined;
}

export interface ServerSizes {
  readonly bufferPoolMiB: number;
  readonly redoLogMiB: number;
}

/** sun_path holds 108 bytes (Linux), 104 (macOS). */
const maxSocketPath = 99;

/** `directory` must exist. */
export async function choosePlace(directory: string): Promise<Place> {
  const home = await realpath(directory);
  const place = { datadir: join(home, "data"), temporary: join(home, "tmp"), port: await freePort() };
  await mkdir(place.temporary, { recursive: true });
  const beside = join(home, "server.sock");
  if (Buffer.byteLength(beside) <= maxSocketPath)
    return { ...place, socket: beside, socketFolder: undefined };
  const socketFolder = await mkdtemp(join(tmpdir(), "shardlift-"));
  return { ...place, socket: join(socketFolder, "server.sock"), socketFolder };
}

/** The whole command line; `extraArgs` override everything but the place. */
export function serverArgs(
  flavor: ServerFlavor,
  place: Place,
  sizes: ServerSizes,
  extraArgs: readonly string[],
): string[] {
  return [
    "--no-defaults",
    ...asRoot(),
    `--innodb-buffer-pool-size=${sizes.bufferPoolMiB}M`,
    // The port is unique among the servers of this host, so it serves as the id too.
    `--server-id=${place.port}`,
    "--skip-name-resolve",
    "--character-set-server=utf8mb4",
    "--local-infile=ON",
    "--log-bin=binlog",
    "--binlog-row-image=FULL",
    "--sync-binlog=1",
    "--innodb-flush-log-at-trx-commit=1",
    "--log-bin-trust-function-creators=1",
    ...(flavor === "mysql" ? mysqlArgs(sizes) : mariadbArgs(sizes)),
    ...extraArgs,
    `--datadir=${place.datadir}`,
    `--tmpdir=${place.temporary}`,
    `--port=${place.port}`,
    "--bind-address=127.0.0.1",
    `--socket=${place.socket}`,
    `--pid-file=${join(place.datadir, "server.pid")}`,
  ];
}

/** Row format is MySQL's default, and naming it is deprecated. */
function mysqlArgs({ redoLogMiB }: ServerSizes): string[] {
  return [
    `--innodb-redo-log-capacity=${redoLogMiB}M`,
    "--gtid-mode=ON",
    "--enforce-gtid-consistency=ON",
    "--mysqlx=OFF",
    "--secure-file-priv=",
  ];
}

function mariadbArgs({ redoLogMiB }: ServerSizes): string[] {
  return [
    `--innodb-log-file-size=${redoLogMiB}M`,
    "--binlog-format=ROW",
    // 0 as on most servers out there: two shards whose logs share a domain is the case that must work.
    "--gtid-domain-id=0",
    "--log-slave-updates=ON",
  ];
}

/**
 * A port below the kernel's range for outgoing connections (from 32768 on Linux, 49152 on macOS): a restart needs the
 * same port again, and a client's connection must not have taken it meanwhile.
 */
async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    if (await isFree(port)) return port;
  }
  throw new ShardliftError("E_SERVER_START", "found no free port between 20000 and 31999 in 200 tries");
}

async function isFree(port: number): Promise<boolean> {
  const probe = createServer();
  return new Promise((resolve) => {
    probe.once("error", () => resolve(false));
    probe.listen({ port, host: "127.0.0.1" }, () => probe.close(() => resolve(true)));
  });
}
