// What the drivers share: JSON instructions in, JSON results out, one per line,
// in order. See node_test.go, which writes the instructions and judges the
// results.
import { createInterface } from "node:readline";

const PATIENCE_MS = 20_000;

// drive answers every instruction on standard input with perform's result. Each
// instruction gets a client of its own: `connect` returns {client, version, call},
// where call takes params and options as either version of the SDK does.
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
    const { version } = connection;
    return { protocol: version(), ...(await within(act(connection, instruction))) };
  } catch (err) {
    return { failure: describe(err) };
  } finally {
    await connection?.client.close().catch(() => {}); // the answer is what counts
  }
}

// answer is what the person says whom a tool asks for something.
export const answer = { action: "accept", content: { name: "Ada Lovelace", integer: 7 } };

async function act({ client, call }, { op, tool, arguments: args }) {
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
      return { result: await call({ name: tool, arguments: args }, {}) };
    case "progress": {
      const progress = [];
      const onprogress = (p) => progress.push(p.progress);
      const result = await call({ name: tool, arguments: args }, { onprogress });
      return { progress, result };
    }
    case "cancel": {
      const abort = new AbortController();
      const onprogress = () => abort.abort("changed my mind");
      try {
        return { result: await call({ name: tool, arguments: args }, { onprogress, signal: abort.signal }) };
      } catch (err) {
        await client.listTools(); // whatever tells the server is sent before
        return { failure: describe(err) };
      }
    }
    default:
      throw new Error(`unknown instruction ${op}`);
  }
}

export function describe(err) {
  const status = err.status ?? err.data?.status;
  return { kind: err.constructor.name, code: err.code, status, message: String(err.message) };
}

export function within(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("no answer in time")), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
