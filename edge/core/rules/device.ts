/** Classes of devices by User-Agent: words, not a data base. Who lies about it gets what it asked for. */
import type { DeviceClass } from "#kit";

/** Longer ones are nobody's browser; the words stand early. */
const CHARACTERS_MAX = 512;

/** In order: the first class with one of its words. Tablets without "Mobile" in Android's name are the last but one. */
const WORDS: readonly (readonly [DeviceClass, readonly string[]])[] = [
  [
    "bot",
    ["bot/", "bot;", "bot)", "bot ", "crawler", "spider", "slurp", "facebookexternalhit", "curl/", "wget/"],
  ],
  ["tablet", ["ipad", "tablet", "kindle", "silk/", "playbook"]],
  ["mobile", ["iphone", "ipod", "mobi", "windows phone", "opera mini"]],
  ["tablet", ["android"]],
];

/** Without User-Agent, and with one that says nothing of these: desktop. */
export function deviceClassOf(userAgent: string | undefined): DeviceClass {
  if (userAgent === undefined) return "desktop";
  const text = userAgent.slice(0, CHARACTERS_MAX).toLowerCase();
  for (const [device, words] of WORDS) if (words.some((word) => text.includes(word))) return device;
  return "desktop";
}
