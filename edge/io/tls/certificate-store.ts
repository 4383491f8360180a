/** The certificates in force, and which one answers for a name. Changing them touches no open connection. */
import type { SecureContext } from "node:tls";
import { ServerNameTable } from "../../core/server-names.ts";
import type { Certificate } from "./certificate.ts";

/** Which certificate comes first, is the default, and answers for a name that several have. */
export type CertificateOrder = "arrival" | "id";

export class CertificateStore {
  readonly #order: CertificateOrder;
  readonly #certificates = new Map<string, Certificate>();
  #table = new ServerNameTable<Certificate>();
  /** Called when another certificate has become the default. */
  onDefaultChanged: (() => void) | undefined;

  /** @param order `id` where the order of arrival differs from server to server */
  constructor(order: CertificateOrder) {
    this.#order = order;
  }

  /** Puts a certificate in force under `id`; it takes the place of the one that was there. */
  set(id: string, certificate: Certificate): void {
    const before = this.default;
    this.#certificates.set(id, certificate);
    this.#rebuild(before);
  }

  delete(id: string): void {
    const before = this.default;
    this.#certificates.delete(id);
    this.#rebuild(before);
  }

  #rebuild(before: Certificate | undefined): void {
    const table = new ServerNameTable<Certificate>();
    for (const certificate of this.#ordered())
      for (const name of certificate.names) table.add(name, certificate);
    this.#table = table;
    if (this.default !== before) this.onDefaultChanged?.();
  }

  contextFor(serverName: string): SecureContext | undefined {
    return this.#table.find(serverName)?.context;
  }

  /** For clients that name no server, and for names that nobody has where that is allowed. */
  get default(): Certificate | undefined {
    return this.#ordered()[0];
  }

  #ordered(): readonly Certificate[] {
    const entries = [...this.#certificates];
    if (this.#order === "id") entries.sort(([a], [b]) => (a < b ? -1 : 1));
    return entries.map(([, certificate]) => certificate);
  }

  get size(): number {
    return this.#certificates.size;
  }

  entries(): IterableIterator<readonly [string, Certificate]> {
    return this.#certificates.entries();
  }
}
