import { userInfo } from "node:os";

/** Who appends a version, for its history. */
export function authorName(): string {
  try {
    return userInfo().username.slice(0, 100);
  } catch {
    // A container may run under a user id without a name.
    return "cli";
  }
}
