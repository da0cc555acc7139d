/**
 * Finds the server program for a local server (demo and tests only; shards of an operator are never started here).
 *
 * Order: the override variable, then PATH, then `.servers/` as bin/setup has unpacked it. An override that does not
 * work is an error and never falls through: the operator asked for that very program.
 */
import { execFile } from "node:child_process";
import { access, constants, readdir } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { ShardliftError } from "../errors/error.ts";

export type ServerFlavor = "mariadb" | "mysql";

export interface ServerBinary {
  readonly flavor: ServerFlavor;
  readonly path: string;
  /** As the program says it: `10.11.18-MariaDB-0+deb12u1`, `9.7.4-2`. */
  readonly version: string;
}

interface Program {
  readonly daemon: string;
  readonly override: string;
  /** An installed server below it is passed over: it lacks variables that local servers are started with. */
  readonly atLeast: readonly [number, number];
  readonly debianPackage: string;
}

export const programs: Readonly<Record<ServerFlavor, Program>> = {
  mariadb: {
    daemon: "mariadbd",
    override: "SHARDLIFT_MARIADBD",
    atLeast: [10, 6],
    debianPackage: "mariadb-server-core",
  },
  mysql: {
    daemon: "mysqld",
    override: "SHARDLIFT_MYSQLD",
    atLeast: [8, 4],
    debianPackage: "mysql-server-core",
  },
};

/** `src/lib/` and `dist/lib/` lie equally deep below the package's root. */
const packageRoot = fileURLToPath(new URL("../../", import.meta.url));

/** What bin/setup and the template data directories live in. */
export const serversFolder: string = join(packageRoot, ".servers");

/** The program to start, or E_SERVER_BINARY that names it and says how to get it. */
export async function findServerBinary(flavor: ServerFlavor): Promise<ServerBinary> {
  const found = (await installedServer(flavor)) ?? (await unpackedServer(flavor));
  if (found !== undefined) return found;
  const { daemon, override, debianPackage } = programs[flavor];
  throw new ShardliftError(
    "E_SERVER_BINARY",
    `no ${daemon} (${flavor}) found: ${override} is not set, none that is recent enough is on PATH, and ` +
      `${join(serversFolder, flavor)} holds none`,
    {
      next: `bin/setup   (or install ${debianPackage} by apt, ${flavor} by Homebrew, or set ${override} to the path of a ${daemon})`,
    },
  );
}

/** The override's program, or a recent enough one on PATH; bin/setup unpacks nothing where this finds one. */
export async function installedServer(flavor: ServerFlavor): Promise<ServerBinary | undefined> {
  const { daemon, override, atLeast } = programs[flavor];
  const asked = process.env[override];
  if (asked !== undefined && asked !== "") {
    const binary = await identify(asked);
    if (binary?.flavor === flavor) return binary;
    const found =
      binary === undefined ? "does not answer --version" : `is ${binary.flavor} ${binary.version}`;
    throw new ShardliftError(
      "E_SERVER_BINARY",
      `${override}=${asked} ${found}; a ${flavor} server is needed`,
      {
        next: `unset ${override}, or set it to the path of a ${daemon}`,
      },
    );
  }
  // Debian keeps daemons in sbin, which is not on the PATH of a user without root.
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/local/sbin", "/usr/sbin"];
  for (const folder of folders.filter((name) => name !== "")) {
    const binary = await identify(join(folder, daemon));
    // Where MariaDB is installed, `mysqld` may be a link to mariadbd.
    if (binary?.flavor === flavor && isRecent(binary.version, atLeast)) return binary;
  }
  return undefined;
}

async function unpackedServer(flavor: ServerFlavor): Promise<ServerBinary | undefined> {
  const home = join(serversFolder, flavor);
  const versions = await readdir(home).catch(() => []);
  const newestFirst = versions.toSorted((a, b) => b.localeCompare(a, "en", { numeric: true }));
  for (const version of newestFirst) {
    // Without its manifest a tree is half made (bin/unpack-server).
    if (version.startsWith(".") || !(await isReadable(join(home, version, "manifest")))) continue;
    const binary = await identify(join(home, version, "bin", programs[flavor].daemon));
    if (binary?.flavor === flavor) return binary;
  }
  return undefined;
}

async function identify(path: string): Promise<ServerBinary | undefined> {
  if (!(await isReadable(path))) return undefined;
  // A program that can not run here (wrong architecture, missing library) counts as absent.
  const answer = await promisify(execFile)(path, ["--no-defaults", "--version"], { timeout: 10_000 }).catch(
    () => undefined,
  );
  const version = /\bVer (\S+)/.exec(answer?.stdout ?? "")?.[1];
  if (version === undefined) return undefined;
  return { flavor: version.includes("MariaDB") ? "mariadb" : "mysql", path, version };
}

function isRecent(version: string, [major, minor]: readonly [number, number]): boolean {
  const [foundMajor = 0, foundMinor = 0] = version.split(".").map((part) => Number.parseInt(part, 10));
  return foundMajor > major || (foundMajor === major && foundMinor >= minor);
}

async function isReadable(path: string): Promise<boolean> {
  return access(path, constants.R_OK).then(
    () => true,
    () => false,
  );
}
