/** A TCP way to a server that can break at a chosen word: for answers that never arrive. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/**
 * What happens when a client sends the word: the packet arrives and the answer does not; it does not arrive; or
 * nothing gets through any more.
 */
export type Loss = "after-delivery" | "before-delivery" | "for-good";

export interface Relay extends AsyncDisposable {
  readonly port: number;
  /** Breaks the connection that sends the word next. */
  cutAt(word: string, loss: Loss): void;
}

export async function openRelay(serverPort: number): Promise<Relay> {
  let trap: { readonly word: string; readonly loss: Loss } | undefined;
  const sockets = new Set<Socket>();
  const relay = createServer((client) => {
    const upstream = connect(serverPort, "127.0.0.1");
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => sockets.delete(socket));
    }
    upstream.pipe(client);
    upstream.on("close", () => client.destroy());
    client.on("close", () => upstream.end());
    client.on("data", (data) => {
      if (trap === undefined || !data.includes(trap.word)) {
        upstream.write(data);
        return;
      }
      const { loss } = trap;
      trap = undefined;
      if (loss === "for-good") relay.close();
      upstream.unpipe(client);
      if (loss === "after-delivery") upstream.end(data);
      else upstream.destroy();
      client.destroy();
    });
  });
  relay.listen(0, "127.0.0.1");
  await once(relay, "listening");
  return {
    port: (relay.address() as AddressInfo).port,
    cutAt: (word, loss) => {
      trap = { word, loss };
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      if (relay.listening) relay.close();
      await Promise.resolve();
    },
  };
}
