// Drives version 2 of the TypeScript SDK. The instruction's era says how it
// finds out what to speak: "legacy", "auto", or a revision to insist on.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

import { answer, drive } from "./client.mjs";

await drive(async ({ era }, url, headers) => {
  const mode = era === "legacy" || era === "auto" ? era : { pin: era };
  const client = new Client(
    { name: `e2e-v2-${era}`, version: "1.0.0" },
    { capabilities: { elicitation: { form: {} } }, versionNegotiation: { mode } },
  );
  client.setRequestHandler("elicitation/create", () => answer);
  await client.connect(new StreamableHTTPClientTransport(url, { requestInit: { headers } }));
  const call = (params, options) => client.callTool(params, options);
  return { client, call, version: () => client.getNegotiatedProtocolVersion() };
});
