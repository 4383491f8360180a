/** Laws of content codings: no byte is lost, and no client gets what it does not take. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { acceptance, CODINGS, codingKey } from "../../../edge/core/compression/accept-encoding.ts";
import { codedStream, codedWhole, decodedWhole } from "#edge";

const chunks = fc.array(fc.uint8Array({ maxLength: 3_000 }), { maxLength: 6 });

test("any content in any pieces comes out of each coding as it went in, streamed and whole", async () => {
  let streamed = 0;
  await fc.assert(
    fc.asyncProperty(
      chunks,
      fc.constantFrom(...CODINGS),
      fc.boolean(),
      async (pieces, coding, isLengthKnown) => {
        const content = Buffer.concat(pieces);
        const source = async function* (): AsyncGenerator<Uint8Array> {
          yield* pieces;
        };
        let told: readonly [number, number] | undefined;
        const parts: Uint8Array[] = [];
        for await (const part of codedStream(source(), {
          coding,
          level: 3,
          bytes: isLengthKnown ? content.byteLength : undefined,
          dictionary: undefined,
          onEnd: (...counts) => {
            told = counts;
          },
        }))
          parts.push(part);
        const stream = Buffer.concat(parts);
        expect(told).toEqual([content.byteLength, stream.byteLength]);
        for (const coded of [stream, await codedWhole(content, coding, 5, undefined)])
          expect(await decodedWhole(coded, coding, 2 ** 20)).toEqual({ bytes: new Uint8Array(content) });
        streamed++;
      },
    ),
    { numRuns: 60 },
  );
  expect(streamed).toBe(60);
});

const quality = fc.constantFrom("", ";q=0", ";q=0.3", ";q=1", ";q=0.000", "; q=1.0", ";q=7", ";x");
const member = fc
  .tuple(
    fc.constantFrom("br", "zstd", "gzip", "GZIP", "x-gzip", "identity", "*", "deflate", "", "dcb"),
    quality,
  )
  .map((parts) => parts.join(""));
const header = fc.array(member, { maxLength: 7 }).map((members) => members.join(", "));

test("a coding is chosen only when the client mentions it, or *, with a weight, and not below identity", () => {
  let chosen = 0;
  fc.assert(
    fc.property(header, (value) => {
      const { ranked, acceptable } = acceptance([["Accept-Encoding", value]]);
      for (const coding of ranked) {
        chosen++;
        expect(acceptable.has(coding)).toBe(true);
        const names = coding === "gzip" ? "(?:x-)?gzip" : coding;
        expect(value).toMatch(
          new RegExp(`(?:^|, )(?:${names}|\\*)(?:$|,|; ?q=(?:0\\.3|1(?:\\.0)?)(?:$|,))`, "i"),
        );
        expect(value).not.toMatch(new RegExp(`(?:^|, )${names};q=0(?:\\.000)?(?:$|,)`, "i"));
      }
    }),
  );
  expect(chosen).toBeGreaterThan(0);
});

test("requests with one key are given the same ranking and ask the next hop alike", () => {
  let equal = 0;
  fc.assert(
    fc.property(header, header, (a, b) => {
      const [one, other] = [a, b].map((value) => [["Accept-Encoding", value]] as const);
      if (one === undefined || other === undefined || codingKey(one) !== codingKey(other)) return;
      equal++;
      expect(acceptance(one)).toEqual(acceptance(other));
    }),
    { numRuns: 500 },
  );
  expect(equal).toBeGreaterThan(0);
});
