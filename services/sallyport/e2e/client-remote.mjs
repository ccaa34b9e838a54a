// Drives mcp-remote, which hosts that only know standard input and output put
// before a server. It relays what is said to it; the instruction's era says
// which version of the SDK does that.
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Client as ClientV2 } from "@modelcontextprotocol/client";
import { StdioClientTransport as StdioV2 } from "@modelcontextprotocol/client/stdio";
import { Client as ClientV1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport as StdioV1 } from "@modelcontextprotocol/sdk/client/stdio.js";
import { ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";

import { answer, drive } from "./client.mjs";

// It keeps files in its home, and must not find anybody's.
const home = mkdtempSync(join(tmpdir(), "sallyport-e2e-home-"));

await drive(async ({ era }, url, headers) => {
  const args = ["node_modules/mcp-remote/dist/proxy.js", url.href, "--allow-http", "--transport", "http-only"];
  for (const [name, value] of Object.entries(headers)) {
    args.push("--header", `${name}:${value}`);
  }
  const how = { command: process.execPath, args, env: { ...process.env, HOME: home }, stderr: "ignore" };
  const name = { name: `e2e-remote-${era}`, version: "1.0.0" };
  if (era === "legacy") {
    const client = new ClientV1(name, { capabilities: { elicitation: {} } });
    client.setRequestHandler(ElicitRequestSchema, () => answer);
    let agreed;
    const transport = new StdioV1(how);
    transport.setProtocolVersion = (version) => (agreed = version);
    await client.connect(transport);
    return { client, call: (params, options) => client.callTool(params, undefined, options), version: () => agreed };
  }
  const client = new ClientV2(name, {
    capabilities: { elicitation: { form: {} } },
    versionNegotiation: { mode: { pin: era } },
  });
  client.setRequestHandler("elicitation/create", () => answer);
  await client.connect(new StdioV2(how));
  return {
    client,
    call: (params, options) => client.callTool(params, options),
    version: () => client.getNegotiatedProtocolVersion(),
  };
});
