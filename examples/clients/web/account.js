// Owns the account center's HTTP, as docs/ACCOUNTS.md has it. Leaves the session to session.js.

const TIMEOUT_MS = 10_000;

/** The account center refused, or could not be asked. */
export class AccountError extends Error {
  /**
   * @param {string} text
   * @param {number} [code] of the contract, or HTTP's
   * @param {number} [retryAfterS] when the next try is in time
   */
  constructor(text, code, retryAfterS) {
    super(text);
    this.code = code;
    this.retryAfterS = retryAfterS;
  }
}

/**
 * Where a cluster is, as any of its gates says.
 * @param {string|URL} [gate] the gate's http(s) address; without one: whoever served the page
 * @returns {Promise<{accounts: string[], gates: string[]}>}
 */
export async function front(gate = globalThis.location?.href) {
  const url = new URL("/front.json", gate);
  const said = await ask(url, {});
  const { host, protocol } = url;
  const here = `${protocol === "https:" ? "wss" : "ws"}://${host}/ws`;
  // Whoever answered is reached for sure.
  return { accounts: said.accounts, gates: [...new Set([here, ...said.gates])] };
}

/**
 * Signs in a guest: the account that was made with this device id, or a new one.
 * @param {string|string[]} accounts account centers, `http://…`; the first that answers
 * @param {string} deviceId whoever has it is that guest: keep it secret
 * @returns {Promise<{token: string, accountId: number, refreshToken: string, expiresIn: number}>}
 */
export function guest(accounts, deviceId) {
  return signIn(accounts, { device_id: deviceId });
}

/** The same by name and password. */
export function byName(accounts, username, password) {
  return signIn(accounts, { username, password });
}

async function signIn(accounts, params) {
  let last = new AccountError("no account center is known");
  for (const account of [accounts].flat()) {
    try {
      // A form, for a browser asks no leave before it posts one.
      const body = new URLSearchParams(params);
      const said = await ask(new URL("/v1/account/auth", account), { method: "POST", body });
      return {
        token: said.token,
        accountId: said.account_id,
        refreshToken: said.refresh_token,
        expiresIn: said.expires_in,
      };
    } catch (error) {
      // Another center would say the same.
      if (error.code !== undefined) throw error;
      last = error;
    }
  }
  throw last;
}

async function ask(url, options) {
  let response, said;
  try {
    response = await fetch(url, { ...options, signal: AbortSignal.timeout(TIMEOUT_MS) });
    said = await response.json();
  } catch (error) {
    // Not the whole URL: a query may hold a secret.
    throw new AccountError(`${url.origin}${url.pathname}: no answer (${error.name})`);
  }
  if (!response.ok || (said.code ?? 0) !== 0) {
    const after = Number(response.headers.get("Retry-After"));
    const text = said.error ?? said.message ?? `refused with code ${said.code}`;
    throw new AccountError(text, said.code ?? response.status, after || undefined);
  }
  return said;
}
