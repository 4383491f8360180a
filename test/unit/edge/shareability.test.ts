import { expect, test } from "vitest";
import { Families, MEMBERS_MIN } from "../../../edge/core/shareability.ts";
import { at } from "./support.ts";

const key = (n: number, extension = ""): string =>
  `https://a.example/api/user/${n}${extension}?q=/x/${n}.png`;

function families(count: number, atSeconds = 0): Families {
  const all = new Families(30_000);
  for (let n = 0; n < count; n++) all.handleAnswer(key(n), false, at(atSeconds));
  return all;
}

test("several members of a family speak for those that were never seen; one alone never does", () => {
  expect(families(MEMBERS_MIN - 1).isUnshareable(key(99), at(0))).toBe(false);
  expect(families(MEMBERS_MIN).isUnshareable(key(99), at(0))).toBe(true);
  const one = new Families(30_000);
  for (let n = 0; n < 100; n++) one.handleAnswer(key(1), false, at(0));
  expect(one.isUnshareable(key(2), at(0))).toBe(false);
});

test("another folder, another kind of file and another host are other families", () => {
  const all = families(MEMBERS_MIN);
  expect(all.isUnshareable(key(99, ".png"), at(0))).toBe(false);
  expect(all.isUnshareable("https://a.example/api/99", at(0))).toBe(false);
  expect(all.isUnshareable("https://b.example/api/user/99", at(0))).toBe(false);
  expect(all.isUnshareable("https://a.example/api/user/", at(0))).toBe(true);
});

test("one answer that can be shared ends it, and so does time", () => {
  const all = families(MEMBERS_MIN);
  expect(all.isUnshareable(key(99), at(29))).toBe(true);
  expect(all.isUnshareable(key(99), at(30))).toBe(false);
  all.handleAnswer(key(1), true, at(1));
  expect(all.isUnshareable(key(99), at(1))).toBe(false);
  // What is long past does not count with what is new.
  const old = families(MEMBERS_MIN - 1);
  old.handleAnswer(key(50), false, at(31));
  expect(old.isUnshareable(key(99), at(31))).toBe(false);
});

test("families are bounded: the least recently answered goes first", () => {
  const all = families(MEMBERS_MIN);
  for (let n = 0; n < 10_000; n++) all.handleAnswer(`https://a.example/${n}/`, false, at(1));
  expect(all.isUnshareable(key(99), at(1))).toBe(false);
});

test("a family that goes on being answered stays, though it is not moved for each answer", () => {
  const all = families(MEMBERS_MIN);
  for (let n = 0; n < 9_990; n++) all.handleAnswer(`https://a.example/${n}/`, false, at(1));
  for (let seconds = 2; seconds < 4; seconds += 0.5) all.handleAnswer(key(1), false, at(seconds));
  for (let n = 0; n < 9_990; n++) all.handleAnswer(`https://b.example/${n}/`, false, at(4));
  expect(all.isUnshareable(key(99), at(4))).toBe(true);
});
