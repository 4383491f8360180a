/** Keys of transfers (RFC 8945) from the file of `--tsig-keys`, and the HMAC that they are for. */
import { createHmac } from "node:crypto";
import {
  array,
  type DomainName,
  hostname,
  nameFromText,
  object,
  oneOf,
  type Parsed,
  ParseError,
  string,
} from "#kit";
import { readFileIfThere } from "#kit/io";
import { type Hmac, tsigAlgorithms, type TsigKeys } from "../core/zone/tsig.ts";

const FILE_BYTES_MAX = 1_048_576;
/** RFC 8945 section 10: as long as the hash is better; less than 128 bits is no secret. */
const SECRET_BYTES_MIN = 16;

const keyFile = array(
  object({
    name: hostname(),
    algorithm: oneOf(tsigAlgorithms),
    /** Base64. */
    secret: string({
      max: 1_024,
      pattern: /^[A-Za-z0-9+/]{22,}={0,2}$/,
      expected: "base64 of 16 octets or more",
    }),
  }),
  { max: 1_000, uniqueBy: ({ name }) => name },
);
/** Keys as they travel to workers. */
export type TsigKeyTexts = Parsed<typeof keyFile>;

/** Throws {@link ParseError}, which never shows a secret, or the system's error. */
export function readTsigKeys(path: string): TsigKeyTexts {
  const data = readFileIfThere(path, FILE_BYTES_MAX);
  if (data === undefined) throw new ParseError(["--tsig-keys"], path, "a file that is there");
  let value: unknown;
  try {
    value = JSON.parse(data.toString("utf8"));
  } catch {
    throw new ParseError(["--tsig-keys"], path, "a file of JSON");
  }
  try {
    return keyFile.parse(value);
  } catch (error) {
    if (!(error instanceof ParseError)) throw error;
    const isSecret = error.path.at(-1) === "secret";
    throw new ParseError(
      ["--tsig-keys", ...error.path],
      isSecret ? "what stands there" : error.value,
      error.expected,
    );
  }
}

export function tsigKeysOf(texts: TsigKeyTexts): TsigKeys {
  return new Map(
    texts.map(({ name, algorithm, secret }) => {
      const octets = Buffer.from(secret, "base64");
      if (octets.length < SECRET_BYTES_MIN)
        throw new ParseError(["--tsig-keys", name], "what stands there", "base64 of 16 octets or more");
      return [name, { name: nameFromText(name) as DomainName, algorithm, secret: octets }];
    }),
  );
}

const hashes = { "hmac-sha256": "sha256", "hmac-sha384": "sha384", "hmac-sha512": "sha512" } as const;

export const hmac: Hmac = (algorithm, secret, bytes) =>
  createHmac(hashes[algorithm], secret).update(bytes).digest();
