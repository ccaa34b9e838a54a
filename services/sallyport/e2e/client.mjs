// What both drivers share: JSON instructions in, JSON results out, one per line,
// in order. See node_test.go, which writes the instructions and judges the
// results.
import { createInterface } from "node:readline";

const PATIENCE_MS = 20_000;

// drive answers every instruction on standard input with perform's result. Each
// instruction gets a client of its own: `connect` returns {client, version}.
export async function drive(connect) {
  for await (const line of createInterface({ input: process.stdin })) {
    const instruction = JSON.parse(line);
    const result = await perform(connect, instruction);
    process.stdout.write(JSON.stringify(result) + "\n");
  }
}

async function perform(connect, instruction) {
  let connection;
  try {
    const headers = { ...instruction.headers, Authorization: `Bearer ${instruction.key}` };
    connection = await within(connect(instruction, new URL(instruction.url), headers));
    const { client, version } = connection;
    return { protocol: version(), ...(await within(act(client, instruction))) };
  } catch (err) {
    return { failure: describe(err) };
  } finally {
    await connection?.client.close().catch(() => {}); // the answer is what counts
  }
}

async function act(client, { op, tool, arguments: args }) {
  switch (op) {
    case "list": {
      const tools = [];
      let cursor;
      do {
        const page = await client.listTools(cursor ? { cursor } : undefined);
        tools.push(...page.tools.map(({ name }) => name));
        cursor = page.nextCursor;
      } while (cursor);
      return { tools };
    }
    case "hello":
      return {};
    case "call":
      // As hosts do. It also arms the client's check of results against the
      // tool's output schema.
      await client.listTools();
      return { result: await client.callTool({ name: tool, arguments: args }) };
    default:
      throw new Error(`unknown instruction ${op}`);
  }
}

function describe(err) {
  const status = err.status ?? err.data?.status;
  return { kind: err.constructor.name, code: err.code, status, message: String(err.message) };
}

function within(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("no answer in time")), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
