import { isIP } from "node:net";
import { IsochroneError } from "../errors.ts";

/** Where a process listens, or where it was asked to. */
export type ListenAddress = {
  /** An IPv4 or IPv6 address, without brackets. */
  readonly host: string;
  /** 0..65535; 0 asks for any free port. */
  readonly port: number;
};

/** What {@link parseListenAddress} takes, for the message that refuses something else. */
export const LISTEN_ADDRESS_EXPECTED = "ADDRESS:PORT such as 127.0.0.1:8080 or [::1]:8080";

const LISTEN_ADDRESS = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})$/;

/**
 * Parses "127.0.0.1:8080" or "[::1]:8080" (RFC 3986, 3.2.2, asks for the brackets). An address, not a name: where a process
 * listens must not depend on a resolver. Undefined for anything else; never throws.
 */
export function parseListenAddress(text: string): ListenAddress | undefined {
  const [, bracketed, plain, digits] = LISTEN_ADDRESS.exec(text) ?? [];
  const host = bracketed ?? plain ?? "";
  const port = Number(digits);
  if (!(port <= 65_535) || isIP(host) !== (bracketed === undefined ? 4 : 6)) return undefined;
  return { host, port };
}

/** "127.0.0.1:8080" or "[::1]:8080": how an address and port stand in a URL. The inverse of {@link parseListenAddress}. */
export function formatListenAddress({ host, port }: ListenAddress): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * The error of a process that cannot listen: a command prints its one line and ends with exit code 2.
 *
 * @param cause what listen() or bind() failed with; its code, such as "EADDRINUSE", is kept
 */
export function listenError(cause: unknown, host: string, port: number): IsochroneError {
  const code: unknown = cause instanceof Error && "code" in cause ? cause.code : undefined;
  return new IsochroneError(listenErrorHint(cause, host, port), {
    code: typeof code === "string" ? code : "listen-failed",
    source: "configuration",
    retry: "never",
    cause,
  });
}

/**
 * One line that says why a socket could not be bound and what to do about it.
 *
 * @param error what listen() or bind() failed with
 * @param host as it was asked for, without brackets
 */
export function listenErrorHint(error: unknown, host: string, port: number): string {
  const endpoint = formatListenAddress({ host, port });
  const code: unknown = error instanceof Error && "code" in error ? error.code : undefined;
  switch (code) {
    case "EADDRINUSE":
      return `Cannot listen on ${endpoint}: the address is in use; stop the process that holds it ("ss -lptun 'sport = :${port}'" names it) or choose another port (EADDRINUSE)`;
    case "EACCES":
      return port > 0 && port < 1024
        ? `Cannot listen on ${endpoint}: ports below 1024 need a right that this process lacks; choose a port of 1024 or above, or grant CAP_NET_BIND_SERVICE (EACCES)`
        : `Cannot listen on ${endpoint}: permission denied; check the machine's security policy or choose another port (EACCES)`;
    case "EADDRNOTAVAIL":
      return `Cannot listen on ${endpoint}: this machine has no such address; use one of its own ("ip address" lists them), 127.0.0.1, or 0.0.0.0 for all (EADDRNOTAVAIL)`;
    default: {
      const why = (error instanceof Error ? error.message : String(error)).replaceAll(/\s+/g, " ");
      return `Cannot listen on ${endpoint}: ${why}`;
    }
  }
}
