/** What a relay has carried for whom. */

/** Targets that are no customer's: parents and origins of the topology. */
export const OWN_ACCOUNT = "(own)";
/** Targets that several customers have as an origin: a connection to them may be any one's. */
export const SHARED_ACCOUNT = "(shared)";
/** Customers beyond those that are told apart. */
const OTHERS_ACCOUNT = "(others)";
/** Customers that are told apart; a hundred bytes each. */
const ACCOUNTS_MAX = 10_000;

/** All but `tunnels` only grow. */
export type RelayAccount = {
  /** Open now. */
  tunnels: number;
  opened: number;
  bytesUp: number;
  bytesDown: number;
};

export class RelayAccounts {
  readonly #accounts = new Map<string, RelayAccount>();

  of(name: string): RelayAccount {
    const known = this.#accounts.get(name);
    if (known !== undefined) return known;
    if (this.#accounts.size >= ACCOUNTS_MAX && name !== OTHERS_ACCOUNT) return this.of(OTHERS_ACCOUNT);
    const account: RelayAccount = { tunnels: 0, opened: 0, bytesUp: 0, bytesDown: 0 };
    this.#accounts.set(name, account);
    return account;
  }

  /** By name, as first seen. */
  get all(): ReadonlyMap<string, Readonly<RelayAccount>> {
    return this.#accounts;
  }
}
