/** Log-in. */
import { useState } from "preact/hooks";
import { messageOf } from "../api.ts";
import { Mark } from "../parts/mark.tsx";
import { logIn } from "../session.ts";

export function LogIn() {
  const [fault, setFault] = useState("");
  const [isBusy, setBusy] = useState(false);
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    setBusy(true);
    setFault("");
    try {
      await logIn(String(form.get("name")), String(form.get("password")));
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
          <p class="muted">Your sites, close to everybody</p>
        </div>
        <label for="name">Account</label>
        <input
          id="name"
          name="name"
          autocomplete="username"
          autocapitalize="none"
          spellcheck={false}
          required
          maxLength={63}
        />
        <label for="password">Password</label>
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
