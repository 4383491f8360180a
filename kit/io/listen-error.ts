/**
 * One line that says why a socket could not be bound and what to do about it.
 *
 * @param error what listen() or bind() failed with
 * @param host as it was asked for, without brackets
 */
export function listenErrorHint(error: unknown, host: string, port: number): string {
  const endpoint = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
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
