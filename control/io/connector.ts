import type { Duplex } from "node:stream";
import type { Socket } from "node:net";
import type { buildConnector } from "undici";
import makeConnector from "undici/lib/core/connect.js";

/** What is asked of a dialer: `dial` of #transport takes it as it is. */
export interface DialTarget {
  readonly host: string;
  readonly port: number;
  readonly tls?: { readonly servername: string };
  readonly timeoutMs: number;
}

/** Opens a connection; rejects with an Error. In a world run it is transport's, so that the links' delays apply. */
export type Dial = (target: DialTarget) => Promise<Duplex>;

/** A black hole (a cut link) must not hold a node that could retry. */
const CONNECT_TIMEOUT_MS = 2_000;

/** undici's connector over a {@link Dial}; without one, plain sockets. */
export function connectorOf(dial: Dial | undefined): buildConnector.connector {
  if (dial === undefined) return makeConnector({ timeout: CONNECT_TIMEOUT_MS, keepAlive: true });
  const connect = async (target: DialTarget, callback: buildConnector.Callback): Promise<void> => {
    let socket: Duplex;
    try {
      socket = await dial(target);
    } catch (error) {
      callback(error instanceof Error ? error : new Error(String(error)), null);
      return;
    }
    // undici uses a socket as the Duplex that it is.
    callback(null, socket as Socket);
  };
  return ({ hostname, port, protocol, servername }, callback) => {
    const isTls = protocol === "https:";
    const host = hostname.replace(/^\[(.*)\]$/, "$1");
    void connect(
      {
        host,
        port: Number(port) || (isTls ? 443 : 80),
        ...(isTls && { tls: { servername: servername ?? host } }),
        timeoutMs: CONNECT_TIMEOUT_MS,
      },
      callback,
    );
  };
}
