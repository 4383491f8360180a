import { userInfo } from "node:os";

/** Who appends a version, for its history; at most `lengthMax` characters. */
export function authorName(lengthMax = 100): string {
  try {
    return userInfo().username.slice(0, lengthMax);
  } catch {
    // A container may run under a user id without a name.
    return "cli";
  }
}
