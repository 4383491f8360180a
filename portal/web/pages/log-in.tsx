/** Log-in. */
import { useState } from "preact/hooks";
import { messageOf } from "../api.ts";
import { Mark } from "../parts/mark.tsx";
import { logIn } from "../session.ts";

/** `isAgain`: the session of `name` is over while its page is open behind this one. */
export function LogIn({ isAgain = false, name = "" }: { isAgain?: boolean; name?: string }) {
  const [fault, setFault] = useState("");
  const [isBusy, setBusy] = useState(false);
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    setBusy(true);
    setFault("");
    try {
      await logIn(textOf(form, "name"), textOf(form, "password"));
    } catch (error) {
      setFault(messageOf(error));
      setBusy(false);
    }
  };
  return (
    <main class="login">
      <form class="panel" onSubmit={(event) => void submit(event)} aria-describedby="login-fault">
        <div class="login-head">
          <Mark size={40} />
          <h1>Isochrone</h1>
          <p class="muted">
            {isAgain
              ? "The session is over. Log in again to go on where you were; what you typed is still there."
              : "Your sites, close to everybody"}
          </p>
        </div>
        <label htmlFor="name">Account</label>
        <input
          id="name"
          name="name"
          defaultValue={name}
          autocomplete="username"
          autocapitalize="none"
          spellcheck={false}
          required
          maxLength={63}
        />
        <label htmlFor="password">Password</label>
        <input
          id="password"
          name="password"
          type="password"
          autocomplete="current-password"
          required
          maxLength={256}
        />
        <p id="login-fault" class="fault" role="alert">
          {fault}
        </p>
        <button type="submit" class="main" disabled={isBusy}>
          {isBusy ? "Checking…" : "Log in"}
        </button>
      </form>
    </main>
  );
}

function textOf(form: FormData, name: string): string {
  const value = form.get(name);
  return typeof value === "string" ? value : "";
}
