import {
  constants,
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  statSync,
  statfsSync,
  type Stats,
} from "node:fs";
import { dirname } from "node:path";
import { ShardliftError } from "../errors/error.ts";

/**
 * Where a store's files may live and how they are made: a folder that nobody else can write, files of mode 0600, no
 * symbolic links, no network file system (facts: control.md 4).
 *
 * Invariant: an existing database file is looked at by lstat and never opened here. Closing *any* descriptor of a file
 * drops all POSIX locks that this process holds on it ("How To Corrupt An SQLite Database File", section 2.2), and
 * another connection of this process may hold some.
 */
export function prepareFile(path: string): { readonly warnings: readonly string[] } {
  const folder = dirname(path);
  // Only what is missing is made, and made private; the mode of an existing folder is the operator's.
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const warnings = checkFolder(folder);
  createPrivately(path);
  checkFiles(path);
  return { warnings };
}

/** The same for a store that is only read; false when there is none. */
export function checkExisting(path: string): {
  readonly exists: boolean;
  readonly warnings: readonly string[];
} {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return { exists: false, warnings: [] };
  const warnings = checkFolder(dirname(path));
  checkFiles(path);
  return { exists: true, warnings };
}

/** Which file stands at the path; another one after a restore or a removal. */
export function fileIdentity(path: string): string | undefined {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  return stat === undefined ? undefined : `${stat.dev}:${stat.ino}`;
}

/** SQLite gives -wal and -shm the mode of the main file, so the main file is made first and private. */
function createPrivately(path: string): void {
  try {
    closeSync(
      openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600),
    );
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "EEXIST") return;
    throw refused(path, "could not be created", cause);
  }
}

function checkFolder(folder: string): string[] {
  // Follows links: a linked folder is the operator's choice as long as what it leads to is safe.
  const { mode } = statSync(folder);
  const sticky = (mode & 0o1000) !== 0;
  if ((mode & 0o022) !== 0 && !sticky) {
    throw refused(
      folder,
      "can be written by other users, who could replace the control store; chmod 0700 it",
    );
  }
  return checkFileSystem(folder);
}

function checkFiles(path: string): void {
  for (const file of [path, `${path}-wal`, `${path}-shm`]) {
    const stat = lstatSync(file, { throwIfNoEntry: false });
    if (stat !== undefined) checkFile(file, stat);
  }
}

function checkFile(file: string, stat: Stats): void {
  if (stat.isSymbolicLink()) throw refused(file, "is a symbolic link");
  if (!stat.isFile()) throw refused(file, "is not a regular file");
  const uid = process.getuid?.();
  if (uid !== undefined && uid !== 0 && stat.uid !== uid)
    throw refused(file, `belongs to another user (uid ${stat.uid})`);
  if ((stat.mode & 0o022) !== 0) throw refused(file, "can be written by other users; chmod 0600 it");
}

/** Magic numbers of the kernel's headers (statfs(2)). File locks and shared memory of these are not those of one host. */
const network: Readonly<Record<number, string>> = {
  0x6969: "NFS",
  0xff534d42: "SMB",
  0xfe534d42: "SMB",
  0x517b: "SMB",
  0x01021997: "9p",
  0xc36400: "Ceph",
  0xbd00bd0: "Lustre",
  0x5346414f: "AFS",
  0x01161970: "GFS2",
  0x7461636f: "OCFS2",
};
const doubtful: Readonly<Record<number, string>> = {
  0x65735546: "FUSE; make sure that it is not a network file system",
  0x01021994: "tmpfs; it is lost when the machine restarts",
};

function checkFileSystem(folder: string): string[] {
  const verdict = judgeFileSystem(statfsSync(folder).type);
  if (verdict === undefined) return [];
  if (verdict.refused)
    throw refused(folder, `is on ${verdict.name}, where SQLite's locks and shared memory do not work`);
  return [`the control store in ${folder} is on ${verdict.name}`];
}

/** What a file system's magic number means for a store; undefined where it is a local one. */
export function judgeFileSystem(
  type: number,
): { readonly refused: boolean; readonly name: string } | undefined {
  // Some systems report it sign-extended.
  const magic = type >>> 0;
  const name = network[magic] ?? doubtful[magic];
  return name === undefined ? undefined : { refused: magic in network, name };
}

function refused(path: string, why: string, cause?: unknown): ShardliftError {
  return new ShardliftError("E_CONTROL_STORE", `control store: ${path} ${why}`, { cause });
}
