// Drives version 1 of the TypeScript SDK, which speaks the legacy era only.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";

import { answer, drive } from "./client.mjs";

await drive(async (_, url, headers) => {
  const client = new Client({ name: "e2e-v1", version: "1.0.0" }, { capabilities: { elicitation: {} } });
  client.setRequestHandler(ElicitRequestSchema, () => answer);
  const transport = new StreamableHTTPClientTransport(url, { requestInit: { headers } });
  await client.connect(transport);
  const call = (params, options) => client.callTool(params, undefined, options);
  return { client, call, version: () => transport.protocolVersion };
});
