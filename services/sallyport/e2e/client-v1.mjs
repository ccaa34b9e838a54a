// Drives version 1 of the TypeScript SDK, which speaks the legacy era only.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

import { drive } from "./client.mjs";

await drive(async (_, url, headers) => {
  const client = new Client({ name: "e2e-v1", version: "1.0.0" });
  const transport = new StreamableHTTPClientTransport(url, { requestInit: { headers } });
  await client.connect(transport);
  return { client, version: () => transport.protocolVersion };
});
