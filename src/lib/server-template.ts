/**
 * A fresh data directory in a fraction of a second: each server version is initialised once, and every local server
 * starts from a copy of it.
 *
 * Invariants: a template has its name only when it is complete (made aside, then renamed), and a name is never used
 * twice; `template.json` inside lists the size of every file. So what has a name and does not match its list is
 * damaged, whatever other processes do meanwhile, and a whole one is never taken away from under a copy.
 */
import { execFile, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { constants } from "node:fs";
import { cp, mkdir, readFile, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { ShardliftError } from "../errors/error.ts";
import { type ServerBinary, serversFolder } from "./server-binary.ts";

/** Raise it when what initialisation does changes: old templates are then left aside. */
const recipe = 1;

const manifestName = "template.json";

/** Makes `datadir` (which must not exist) a new, empty data directory with an identity of its own. */
export async function newDatadir(binary: ServerBinary, datadir: string, signal?: AbortSignal): Promise<void> {
  const template = await ensureTemplate(binary, { signal });
  const aside = `${datadir}.new`;
  await rm(aside, { recursive: true, force: true });
  // A reflink where the file system can, a plain copy elsewhere.
  await cp(template, aside, { recursive: true, mode: constants.COPYFILE_FICLONE });
  await rm(join(aside, manifestName));
  // MySQL keeps its server_uuid here and makes a new one where the file is missing.
  await rm(join(aside, "auto.cnf"), { force: true });
  // Renamed last: a half-made copy must not pass for a data directory at the next start.
  await rename(aside, datadir);
}

/** A whole template of this version, made if there is none yet. */
export async function ensureTemplate(
  binary: ServerBinary,
  options: { readonly folder?: string; readonly signal?: AbortSignal | undefined } = {},
): Promise<string> {
  const folder = options.folder ?? (await templatesFolder());
  const key = `${binary.flavor}-${binary.version.replaceAll(/[^\w.+~-]/g, "_")}-${recipe}.`;
  const found = await wholeTemplate(folder, key);
  if (found !== undefined) return found;
  const name = `${key}${randomUUID()}`;
  const aside = join(folder, `.${name}`);
  await mkdir(aside, { mode: 0o700 });
  try {
    await initialise(binary, aside, options.signal);
    await writeFile(join(aside, manifestName), JSON.stringify(await sizes(aside)));
    const quicker = await wholeTemplate(folder, key);
    if (quicker !== undefined) return quicker;
    await rename(aside, join(folder, name));
    return join(folder, name);
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
}

async function wholeTemplate(folder: string, key: string): Promise<string | undefined> {
  for (const name of (await readdir(folder)).toSorted()) {
    const path = join(folder, name);
    if (name.startsWith(key)) {
      if (await isWhole(path)) return path;
      await rm(path, { recursive: true, force: true });
    } else if (name.startsWith(`.${key}`) && (await isLeftBehind(path))) {
      await rm(path, { recursive: true, force: true });
    }
  }
  return undefined;
}

/** Initialisation takes seconds: what is still aside after an hour belongs to a process that was killed. */
async function isLeftBehind(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found !== undefined && Date.now() - found.mtimeMs > 3_600_000;
}

async function isWhole(template: string): Promise<boolean> {
  try {
    const manifest = await readFile(join(template, manifestName), "utf8");
    return manifest === JSON.stringify(await sizes(template));
  } catch {
    // Files are missing, or another process is removing it because they are.
    return false;
  }
}

async function sizes(folder: string): Promise<Record<string, number>> {
  const names = await readdir(folder, { recursive: true });
  const entries: [string, number][] = [];
  for (const name of names.toSorted()) {
    if (name === manifestName) continue;
    const found = await stat(join(folder, name));
    if (found.isFile()) entries.push([name, found.size]);
  }
  return Object.fromEntries(entries);
}

/** Where a package is installed for all users its folder can not be written: the template then lives in the temporary folder. */
async function templatesFolder(): Promise<string> {
  const uid = process.getuid?.() ?? "user";
  for (const folder of [join(serversFolder, "templates"), join(tmpdir(), `shardlift-templates-${uid}`)]) {
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      const { uid: owner } = await stat(folder);
      // Somebody else's folder under a shared temporary folder must not feed our servers.
      if (process.getuid === undefined || owner === uid) return folder;
    } catch {
      // Not writable; the next one.
    }
  }
  throw new ShardliftError("E_SERVER_START", `no folder for server templates can be written (${tmpdir()})`);
}

async function initialise(binary: ServerBinary, datadir: string, signal?: AbortSignal): Promise<void> {
  const common = ["--no-defaults", `--datadir=${datadir}`, "--innodb-buffer-pool-size=64M", ...asRoot()];
  if (binary.flavor === "mysql") {
    // Statements of the init file run during --initialize (MySQL 9.7 manual, "Initializing the Data Directory");
    // without it root could log in through the socket only, since local servers do not resolve names.
    const initFile = `${datadir}.sql`;
    await writeFile(
      initFile,
      "CREATE USER root@'127.0.0.1';\nGRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n",
    );
    try {
      const args = ["--initialize-insecure", `--init-file=${initFile}`, "--innodb-redo-log-capacity=8M"];
      await run(binary, [...common, ...args], "", signal);
    } finally {
      await rm(initFile, { force: true });
    }
    return;
  }
  const args = [
    "--bootstrap",
    "--enforce-storage-engine=",
    "--max-allowed-packet=8M",
    "--innodb-log-file-size=16M",
  ];
  await run(binary, [...common, ...args], await bootstrapSql(binary), signal);
}

/** The statements that mariadb-install-db feeds to `mariadbd --bootstrap`; it reads one statement a line. */
async function bootstrapSql(binary: ServerBinary): Promise<string> {
  const help = await promisify(execFile)(binary.path, ["--no-defaults", "--verbose", "--help"], {
    maxBuffer: 16 * 1024 * 1024,
  });
  const share = /^lc-messages-dir\s+(\S.*)$/m.exec(help.stdout)?.[1]?.trim();
  if (share === undefined) {
    throw new ShardliftError("E_SERVER_START", `${binary.path} --verbose --help names no lc-messages-dir`);
  }
  const parts = ["create database if not exists mysql;\nuse mysql;\nSET @auth_root_socket=NULL;\n"];
  for (const name of ["system_tables", "performance_tables", "system_tables_data", "sys_schema"]) {
    // Named mysql_* until 10.11, mariadb_* since 11.
    parts.push(
      await readFile(join(share, `mariadb_${name}.sql`), "utf8").catch(() =>
        readFile(join(share, `mysql_${name}.sql`), "utf8"),
      ),
    );
  }
  return parts.join("\n");
}

async function run(
  binary: ServerBinary,
  args: readonly string[],
  input: string,
  signal?: AbortSignal,
): Promise<void> {
  const child = spawn(binary.path, args, { stdio: ["pipe", "pipe", "pipe"], ...(signal && { signal }) });
  const output: string[] = [];
  child.stdout.on("data", (data: Buffer) => output.push(data.toString()));
  child.stderr.on("data", (data: Buffer) => output.push(data.toString()));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
    // A server that refuses the bootstrap closes its end early; its output then says why.
    child.stdin.once("error", () => undefined);
    child.stdin.end(input);
  });
  if (code === 0) return;
  const tail = output.join("").split("\n").slice(-20).join("\n");
  throw new ShardliftError(
    "E_SERVER_START",
    `${binary.path} could not initialise a data directory (exit ${code}):\n${tail}`,
  );
}

/** A server that is started by root asks to be told so. */
export function asRoot(): string[] {
  return process.getuid?.() === 0 ? ["--user=root"] : [];
}
