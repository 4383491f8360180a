/**
 * Which certificate answers for a name of the TLS server name indication (RFC 6066, section 3). Names match as in RFC 9525,
 * section 6.3: exactly, or by a wildcard that stands for exactly one leftmost label.
 */

/** What is compared: lower case, no trailing dot. Names are A-labels on the wire already. */
export function canonicalServerName(name: string): string {
  const lower = name.toLowerCase();
  return lower.endsWith(".") ? lower.slice(0, -1) : lower;
}

/** A host name, or one with "*" as its whole leftmost label above at least two more ("*.example.com", never "*.com"). */
const CERTIFICATE_NAME =
  /^(?:\*\.(?=[^.]+\.[^.]))?(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*$/;

/** Whether a certificate's name can be looked up; addresses and partial wildcards ("w*.example.com") cannot. */
export function isServerNamePattern(name: string): boolean {
  return CERTIFICATE_NAME.test(name);
}

/** From names and wildcards to what answers for them. */
export class ServerNameTable<T> {
  readonly #byName = new Map<string, T>();

  /** @param name as {@link isServerNamePattern} takes it. The first entry for a name keeps it; false: it was not the first. */
  add(name: string, value: T): boolean {
    const canonical = canonicalServerName(name);
    if (this.#byName.has(canonical)) return false;
    this.#byName.set(canonical, value);
    return true;
  }

  /** Exact before wildcard; undefined when no name matches. Never throws, whatever a client sends. */
  find(serverName: string): T | undefined {
    const name = canonicalServerName(serverName);
    const exact = this.#byName.get(name);
    // "*" is a pattern, not a name that a client may ask for.
    if (exact !== undefined) return name.startsWith("*") ? undefined : exact;
    const dot = name.indexOf(".");
    return dot <= 0 ? undefined : this.#byName.get(`*${name.slice(dot)}`);
  }

  get size(): number {
    return this.#byName.size;
  }
}
