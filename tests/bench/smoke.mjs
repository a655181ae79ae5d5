// Whether the benchmark counts right: every mode of the load generator against arke_server for a moment, with every kind of
// loop, and against servers that answer wrongly. No time is judged.
//
//     node smoke.mjs ARKE_SERVER LOAD
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";

import { run, runLoad, startServer } from "./process.mjs";

const [arkeServer, load] = process.argv.slice(2);
if (!load) {
  console.error("Say what to test: node smoke.mjs ARKE_SERVER LOAD");
  process.exit(2);
}

/** mode, parameters, and what the report must say */
const cases = [
  ...["native", "text", "string", "view", "number", "json"].map((kind) => [
    "echo",
    { kind, size: 18, connections: 5, "in-flight": 4, messages: 200 },
    { messages: 200, messages_in_all: 200 },
  ]),
  ...[1, 125, 126, 65_535, 65_536, 1_000_000].map((size) => [
    "echo",
    { size, connections: 3, "in-flight": 2, messages: 12 },
    { messages_in_all: 12, answer_bytes: size + (size < 126 ? 2 : size < 65_536 ? 4 : 10) },
  ]),
  ["broadcast", { connections: 10, "in-flight": 3, size: 64, messages: 30 }, { deliveries: 300, deliveries_in_all: 300 }],
  ["broadcast", { connections: 10, size: 40_000, messages: 30 }, { deliveries_in_all: 300 }],
  ["broadcast", { connections: 10, "in-flight": 3, messages: 30, publisher: "thread" }, { deliveries_in_all: 300 }],
  ["broadcast", { connections: 10, "in-flight": 3, messages: 30, publisher: "loop" }, { deliveries_in_all: 300 }, 2],
  ["rooms", { connections: 20, rooms: 40, "room-size": 5, "in-flight": 8, messages: 80 }, { published: 80, deliveries: 400 }],
  ["latency", { connections: 7, rate: 1000, "warm-up": 0.1, seconds: 0.2 }, { messages: 200, messages_in_all: 300 }],
  ["idle", { connections: 50, settle: 0.05 }, { connections: 50 }],
  ["handshakes", { connections: 5, messages: 50 }, { handshakes: 50, handshakes_in_all: 50 }],
];

for (const loop of ["automatic", "epoll", "io_uring", "portable"]) {
  for (const [mode, parameters, expected, threads = 1] of cases) {
    const what = `${loop}: ${mode} ${JSON.stringify(parameters)}`;
    const server = await startServer([arkeServer, "PORT", loop, String(threads)]);
    try {
      const report = await runLoad(load, mode, server, { patience: 10, ...parameters }, { timeout: 30_000 });
      for (const [name, value] of Object.entries(expected)) assert.equal(report[name], value, `${what}: ${name}`);
    } catch (error) {
      throw new Error(`${what}: ${error.message} ${server.lastWords()}`);
    } finally {
      assert.ok(await server.stop(), `${what}: the server does not end on SIGTERM`);
    }
  }
}

// For some time instead of for a number of messages.
{
  const server = await startServer([arkeServer, "PORT"]);
  for (const mode of ["echo", "broadcast", "rooms", "handshakes"]) {
    const measure = (seconds) => runLoad(load, mode, server, { connections: 10, "warm-up": 0.05, seconds });
    let report = await measure(0.1).catch((error) => {
      if (!/give more --seconds/.test(error.message)) throw error;
      return {};
    });
    // A moment in which the server got no processor says nothing.
    if (!(report.per_second > 0 && report.cpu_us > 0)) report = await measure(5);
    assert.ok(report.seconds >= 0.1 && report.per_second > 0 && report.cpu_us > 0, `${mode}: ${JSON.stringify(report)}`);
  }
  await server.stop();
}

// --- what is wrong is found

async function fails(why, promise) {
  await assert.rejects(promise, ({ message }) => why.test(message) || assert.fail(`'${message}' is not ${why}`));
}

/** A plain echo that changes what it sends back, after so many bytes. */
async function wrongEcho(after, change) {
  let echoed = 0;
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (data) => {
      echoed += data.length;
      socket.write(echoed > after ? change(data) : data);
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

const wrong = [
  [/something else/, 0, (data) => data.map((byte) => byte ^ 1), 10],
  [/more than it should/, 1000, (data) => Buffer.concat([data, Buffer.of(0)]), 10],
  [/Nothing came/, 1000, (data) => data.subarray(1), 0.5],
];
for (const [why, after, change, patience] of wrong) {
  const server = await wrongEcho(after, change);
  const target = { port: server.address().port, pid: process.pid };
  await fails(why, runLoad(load, "echo", target, { protocol: "raw", connections: 1, messages: 1000, patience }));
  server.close();
}
const server = await startServer([arkeServer, "PORT"]);
await fails(/something else|more than it should|closed a connection|Nothing came/, runLoad(load, "echo", server, { protocol: "raw", patience: 1 }));
await fails(/does not upgrade/, runLoad(load, "echo", server, { protocol: "socket.io", kind: "string" }));
await fails(/start it with 2 threads/, runLoad(load, "broadcast", server, { publisher: "loop", connections: 4 }));
await fails(/multiple of --room-size/, runLoad(load, "rooms", server, { connections: 7 }));
await server.stop();
await fails(/Cannot connect/, runLoad(load, "echo", { port: server.port, pid: process.pid }, {}));
await fails(/There is no option '--conections'/, run([load, "echo", "1", "--conections", "1"]));
await fails(/no loop 'uring'/, run([arkeServer, "0", "uring"]));

console.log("counts are right");
process.exit(0);
