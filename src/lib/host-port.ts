/** `host`, `host:port` or `[v6]:port`; undefined when it is none of them. Brackets are taken off an IPv6 address. */
export const hostPortPattern = /^(\[[0-9a-fA-F:.]+\]|[^\s:/@[\]]+)(:(\d{1,5}))?$/;

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

export function parseHostPort(text: string, defaultPort: number): HostPort | undefined {
  const match = hostPortPattern.exec(text);
  if (match?.[1] === undefined) return undefined;
  const port = match[3] === undefined ? defaultPort : Number(match[3]);
  if (port < 1 || port > 65_535) return undefined;
  return { host: match[1].replace(/^\[|\]$/g, ""), port };
}

/** One text for one server, as far as names show it: loopback has many names. */
export function serverKey({ host, port }: HostPort): string {
  const name = host.toLowerCase();
  return `${["localhost", "127.0.0.1", "::1"].includes(name) ? "loopback" : name}:${port}`;
}
