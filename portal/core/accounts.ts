/** Portal accounts as the environment states them. The passwords leave this shape at once, as hashes. */
import { array, type CustomerId, id, nullable, object, optional, type Parsed, string } from "#kit";

/** As many as a start can hash in a reasonable time. */
export const ACCOUNTS_MAX = 500;
/** Long enough for a pass phrase; short enough that hashing it is no way to load the machine. */
export const PASSWORD_CHARACTERS_MAX = 256;

const account = object({
  name: string({
    max: 63,
    pattern: /^[a-z0-9][a-z0-9._@-]*$/,
    expected: "an account name of lower-case letters, digits and . _ @ -",
  }),
  password: string({
    min: 8,
    max: PASSWORD_CHARACTERS_MAX,
    expected: `a password of 8 to ${PASSWORD_CHARACTERS_MAX} characters`,
  }),
  /** Null: an operator. */
  customerId: nullable(id<CustomerId>()),
  /** SHA-256 of its API tokens. */
  tokenDigests: optional(
    array(
      string({
        max: 64,
        pattern: /^[0-9a-f]{64}$/,
        expected: "64 hexadecimal digits, the SHA-256 of a token",
      }),
      { max: 20 },
    ),
  ),
});
export type StatedAccount = Parsed<typeof account>;

const accounts = array(account, { min: 1, max: ACCOUNTS_MAX, uniqueBy: (one) => one.name });

/**
 * Accounts of the text of ISOCHRONE_PORTAL_ACCOUNTS.
 * @throws Error in one line that never holds a password: a refused value is named by its path and its expectation only
 */
export function parseAccounts(text: string): readonly StatedAccount[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The parser's own message quotes the text.
    throw new Error(
      "ISOCHRONE_PORTAL_ACCOUNTS: got no JSON, expected a list of {name, password, customerId}",
    );
  }
  try {
    return accounts.parse(value);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const { path, expected } = error as Error & { path?: readonly (string | number)[]; expected?: string };
    const place = path === undefined || path.length === 0 ? "the list" : path.join(".");
    // oxlint-disable-next-line eslint/preserve-caught-error -- the cause holds the refused value, perhaps a password
    throw new Error(
      `ISOCHRONE_PORTAL_ACCOUNTS: ${place}: expected ${expected ?? "a list of {name, password, customerId}"}`,
    );
  }
}
