/** What the row-path benches measure on: two servers of a flavor, an `orders` table, and who spent which CPU time. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Connection } from "mysql2/promise";
import { type LocalServer, startLocalServer } from "../../src/lib/local-server.ts";
import type { ServerFlavor } from "../../src/lib/server-binary.ts";

export interface BenchServers extends AsyncDisposable {
  readonly source: LocalServer;
  readonly target: LocalServer;
}

export async function startBenchServers(flavor: ServerFlavor): Promise<BenchServers> {
  const directory = await mkdtemp(join(tmpdir(), `shardlift-bench-${flavor}-`));
  const start = async (name: string): Promise<LocalServer> =>
    await startLocalServer({ flavor, directory: join(directory, name), bufferPoolMiB: 256, redoLogMiB: 512 });
  const source = await start("source");
  const target = await start("target");
  return {
    source,
    target,
    [Symbol.asyncDispose]: async () => {
      await Promise.all([source, target].map(async (server) => server.kill("SIGKILL")));
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** About 240 bytes a row, with NULLs, 4-byte characters, JSON, decimals and fractions of seconds. */
export const createOrders = `CREATE TABLE orders (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT, user_id BIGINT UNSIGNED NOT NULL, status VARCHAR(16) NOT NULL,
  sku VARCHAR(40) NOT NULL, amount DECIMAL(12,2) NOT NULL, created_at DATETIME NOT NULL, updated_at DATETIME(3) NULL,
  note VARCHAR(200) NULL, attrs JSON NOT NULL, PRIMARY KEY (id)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4`;

export async function fillOrders(root: Connection, rows: number): Promise<void> {
  const digits =
    "(SELECT 0 d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";
  const numbers = `SELECT a.d+b.d*10+c.d*100+e.d*1000+f.d*10000+g.d*100000 AS n FROM ${digits} a, ${digits} b, ${digits} c, ${digits} e, ${digits} f, ${digits} g`;
  await root.query(`INSERT INTO orders
    SELECT n+1, CRC32(CONCAT('u',n))%200000+1, ELT(n%5+1,'pending','paid','shipped','delivered','refunded'),
      CONCAT('SKU-',UPPER(LEFT(SHA2(n,224),12)),'-',n%997), (CRC32(n)%9999999)/100,
      '2023-01-01 00:00:00'+INTERVAL n*31 SECOND, IF(n%3=0,NULL,'2024-06-01 00:00:00.125'+INTERVAL n SECOND),
      IF(n%16=5,NULL,CONCAT(IF(n%32=7,'😀 ünï ',''),LEFT(SHA2(n,224),32),' ',LEFT(SHA2(n*7,224),32),' ',LEFT(SHA2(n*13,224),n%30))),
      CONCAT('{"src": "',ELT(n%3+1,'web','ios','android'),'", "qty": ',n%9+1,', "coupon": "',LEFT(SHA2(n*3,224),8),'"}')
    FROM (${numbers}) AS numbers WHERE n < ${rows} ORDER BY n`);
}

export interface Cost {
  readonly rows: number;
  readonly rowsPerSecond: number;
  /** Microseconds of CPU a row: steadier than wall time on a shared machine. */
  readonly nodeCpu: number;
  readonly sourceCpu: number;
  readonly targetCpu: number;
}

export async function measure({ source, target }: BenchServers, body: () => Promise<number>): Promise<Cost> {
  const before = [await serverCpu(source), await serverCpu(target)];
  const node = process.cpuUsage();
  const startedAt = performance.now();
  const rows = await body();
  const seconds = (performance.now() - startedAt) / 1000;
  const { user, system } = process.cpuUsage(node);
  const after = [await serverCpu(source), await serverCpu(target)];
  const spent = (index: number): number => ((after[index] ?? 0) - (before[index] ?? 0)) / rows;
  return {
    rows,
    rowsPerSecond: rows / seconds,
    nodeCpu: (user + system) / rows,
    sourceCpu: spent(0),
    targetCpu: spent(1),
  };
}

/** User and system time of the process so far, in microseconds (proc(5): clock ticks of 10 ms). */
async function serverCpu({ pid }: LocalServer): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
}

export function show(name: string, cost: Cost): void {
  const columns = [
    name.padEnd(44),
    `${Math.round(cost.rowsPerSecond).toLocaleString("en").padStart(9)} rows/s`,
    `node ${cost.nodeCpu.toFixed(2)}`,
    `source ${cost.sourceCpu.toFixed(2)}`,
    `target ${cost.targetCpu.toFixed(2)} µs CPU/row`,
  ];
  console.log(columns.join("   "));
}

/** `--rows 100000 --engine mysql`; both engines without the flag. */
export function benchArguments(defaultRows: number): {
  readonly rows: number;
  readonly flavors: readonly ServerFlavor[];
} {
  const value = (name: string): string | undefined => {
    const at = process.argv.indexOf(`--${name}`);
    return at < 0 ? undefined : process.argv[at + 1];
  };
  const engine = value("engine");
  const flavors = (["mariadb", "mysql"] as const).filter(
    (flavor) => engine === undefined || engine === flavor,
  );
  return { rows: Number(value("rows") ?? defaultRows), flavors };
}
