/** Secrets of one deployment: made once, kept in the state directory with mode 0600, handed to children by environment. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { chmodSync } from "node:fs";
import { array, nullable, object, type Parsed, string } from "#kit";
import { readFileIfThere, writeFileDurable } from "#kit/io";
import { messageOf, UsageError } from "../usage.ts";

const secretsSchema = object({
  controlToken: string({ min: 32 }),
  peerKey: string({ min: 64, pattern: /^[0-9a-f]+$/, expected: "hexadecimal digits" }),
  /** Portal accounts; `customerId` null is an operator. */
  accounts: array(object({ name: string(), password: string({ min: 8 }), customerId: nullable(string()) })),
});
export type Secrets = Parsed<typeof secretsSchema>;

/**
 * Reads them, or makes them: one operator and one account for each customer.
 * @returns `isNew`, so that passwords are shown once and not at each start
 */
export async function loadSecrets(
  stateDirectory: string,
  customerIds: readonly string[],
): Promise<{ readonly secrets: Secrets; readonly isNew: boolean }> {
  const path = join(stateDirectory, "secrets.json");
  const stored = readFileIfThere(path, 1_048_576);
  let secrets: Secrets | undefined;
  if (stored !== undefined) {
    try {
      secrets = secretsSchema.parse(JSON.parse(stored.toString("utf8")));
    } catch (error) {
      throw new UsageError(`${path}: ${messageOf(error)}; mend it, or remove it to make new secrets`);
    }
  }
  const known = new Set(secrets?.accounts.map((account) => account.name));
  const missing = ["operator", ...customerIds].filter((name) => !known.has(name));
  if (secrets !== undefined && missing.length === 0) return { secrets, isNew: false };
  const made: Secrets = {
    controlToken: secrets?.controlToken ?? randomBytes(24).toString("base64url"),
    peerKey: secrets?.peerKey ?? randomBytes(32).toString("hex"),
    accounts: [
      ...(secrets?.accounts ?? []),
      ...missing.map((name) => ({
        name,
        password: randomBytes(9).toString("base64url"),
        customerId: name === "operator" ? null : name,
      })),
    ],
  };
  await writeFileDurable(path, JSON.stringify(made, null, 2));
  chmodSync(path, 0o600);
  return { secrets: made, isNew: true };
}
