// Drives the TypeScript SDKs as clients that have no key and get their tokens by
// OAuth: what they do for that is theirs, this only keeps tokens and plays the
// browser. See oauth_test.go, which writes the instructions and judges the results.
// Unlike with the other drivers all instructions after "connect" are for one client.
import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";

import * as v2 from "@modelcontextprotocol/client";
import { ClientCredentialsProvider as ClientCredentialsV1 } from "@modelcontextprotocol/sdk/client/auth-extensions.js";
import { UnauthorizedError as UnauthorizedV1 } from "@modelcontextprotocol/sdk/client/auth.js";
import { Client as ClientV1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as TransportV1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

import { describe, within } from "./client.mjs";

// Tokens is what a host implements: where tokens are kept, and how the person gets
// to the provider and back.
class Tokens {
  redirectUrl = "http://127.0.0.1:9/callback";
  clientMetadata = {
    client_name: "e2e",
    redirect_uris: [this.redirectUrl],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    token_endpoint_auth_method: "none",
  };
  visits = 0; // to the provider, in the browser
  #code;
  #state;
  #saved = {};

  constructor(clientId, dpop) {
    this.clientId = clientId;
    if (dpop) this.dpop = () => dpop;
  }
  clientInformation() {
    return { client_id: this.clientId };
  }
  state() {
    return (this.#state = randomUUID());
  }
  tokens() {
    return this.#saved.tokens;
  }
  saveTokens(tokens) {
    this.#saved.tokens = tokens;
  }
  codeVerifier() {
    return this.#saved.verifier;
  }
  saveCodeVerifier(verifier) {
    this.#saved.verifier = verifier;
  }
  discoveryState() {
    return this.#saved.discovery;
  }
  saveDiscoveryState(state) {
    this.#saved.discovery = state;
  }

  // A browser in which the person is logged in already.
  async redirectToAuthorization(url) {
    this.visits++;
    for (let next = url; ; ) {
      const response = await fetch(next, { redirect: "manual" });
      const location = response.headers.get("location");
      if (!location) throw new Error(`the provider answers ${response.status}: ${await response.text()}`);
      next = new URL(location, next);
      if (next.origin === url.origin) continue;
      if (next.searchParams.get("state") !== this.#state) throw new Error("the state is another one");
      this.#code = next.searchParams.get("code");
      return;
    }
  }
  takeCode() {
    const code = this.#code;
    this.#code = undefined;
    return code;
  }
}

// sdk makes the client of either version.
async function sdk({ version, era, clientId, secret, issuer, dpop }) {
  if (version === "v1") {
    const tokens = secret
      ? new ClientCredentialsV1({ clientId, clientSecret: secret, expectedIssuer: issuer })
      : new Tokens(clientId);
    return {
      tokens,
      client: new ClientV1({ name: "e2e-oauth-v1", version: "1.0.0" }, { capabilities: {} }),
      transport: (url) => new TransportV1(url, { authProvider: tokens }),
      unauthorized: UnauthorizedV1,
    };
  }
  const tokens = secret
    ? new v2.ClientCredentialsProvider({ clientId, clientSecret: secret, expectedIssuer: issuer })
    : new Tokens(clientId, dpop && (await v2.DpopSession.create()));
  const mode = era === "legacy" || era === "auto" ? era : { pin: era };
  return {
    tokens,
    client: new v2.Client({ name: `e2e-oauth-v2-${era}`, version: "1.0.0" }, { versionNegotiation: { mode } }),
    transport: (url) => new v2.StreamableHTTPClientTransport(url, { authProvider: tokens }),
    unauthorized: v2.UnauthorizedError,
  };
}

let now;

// authorized does something and, where the SDK has sent the person to the
// provider, finishes that and does it again, as hosts do. Nobody is sent twice for
// one thing.
async function authorized(action) {
  try {
    return await action();
  } catch (err) {
    const code = now.tokens.takeCode?.();
    if (!(err instanceof now.unauthorized) || !code) throw err;
    await now.current.finishAuth(code);
    return await action();
  }
}

async function perform({ op, url, tool, arguments: args, ...who }) {
  let before = now?.tokens.visits ?? 0;
  const told = (more) => {
    const { scope, token_type: type } = now.tokens.tokens() ?? {};
    return { visits: (now.tokens.visits ?? 0) - before, scope, type, ...more };
  };
  try {
    switch (op) {
      case "connect":
        await now?.client.close().catch(() => {}); // whatever it was
        now = await sdk(who);
        before = 0;
        await authorized(() => {
          now.current = now.transport(new URL(url)); // one cannot be started twice
          return now.client.connect(now.current);
        });
        return told();
      case "list":
        return told({ tools: (await authorized(() => now.client.listTools())).tools.map(({ name }) => name) });
      case "call":
        return told({ result: await authorized(() => now.client.callTool({ name: tool, arguments: args })) });
      default:
        throw new Error(`unknown instruction ${op}`);
    }
  } catch (err) {
    return told({ failure: describe(err) });
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const result = await within(perform(JSON.parse(line))).catch((err) => ({ failure: describe(err) }));
  process.stdout.write(JSON.stringify(result) + "\n");
}
await now?.client.close().catch(() => {}); // nobody waits for it
process.exit(0);
