// What a second server costs: one room on two servers that share a broker, beside the same room on one. Arke on Redis and on NATS,
// socket.io on Redis by its adapter.
//
//     node cluster.mjs ARKE_SERVER LOAD [--rounds N] [--seconds S] [--members N] [--rate N] [--in-flight N] [--only REGEX]
//                      [--quick] [--smoke]
//
// The load generator is one process, so that there is one clock: half of the members and of the senders on each server. Each round
// starts the servers of each row anew, in another order than the round before: some seconds at a rate, for the time that a delivery
// takes, and some with so many messages under way at any time. All servers and brokers share one processor, and the load generator
// has the other: on two servers is twice the work of one, not twice the machine. --smoke counts and judges no time.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { freePort } from "../support/free_port.mjs";
import { isPinned, isThere, run, runLoad, startServer } from "./process.mjs";
import { align, describeMachine, median } from "./report.mjs";

const { values: options, positionals: [arkeServer, load] } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: "string" },
    seconds: { type: "string" },
    members: { type: "string", default: "200" },
    rate: { type: "string", default: "100" },
    "in-flight": { type: "string", default: "32" },
    only: { type: "string", default: "" },
    quick: { type: "boolean", default: false },
    smoke: { type: "boolean", default: false },
  },
});
if (!load) {
  console.error("Say what to measure: node cluster.mjs ARKE_SERVER LOAD");
  process.exit(2);
}
const rounds = Number(options.rounds ?? (options.quick || options.smoke ? 1 : 5));
const seconds = Number(options.seconds ?? (options.quick ? 0.3 : 2));
const say = (line) => console.error(line);

// --- the brokers

const folder = mkdtempSync(join(tmpdir(), "arke-bench-cluster-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

/** One command to Redis on a connection of its own, and its answer. */
function askRedis(port, command) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, "127.0.0.1").on("error", reject).setTimeout(5000, () => socket.destroy(new Error("Redis does not answer")));
    let answer = "";
    socket.on("data", (data) => {
      answer += data;
      const [, size, rest] = /^\$(\d+)\r\n([^]*)$/.exec(answer) ?? [];
      if (size === undefined || Buffer.byteLength(rest) < Number(size) + 2) return;
      socket.destroy();
      resolve(rest);
    });
    socket.write(`${command}\r\n`);
  });
}

const brokers = {
  Redis: {
    program: "redis-server",
    package: "redis-server",
    async start() {
      const server = await startServer(["redis-server", "--port", "PORT", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]);
      return { ...server, url: `redis://127.0.0.1:${server.port}` };
    },
    /** What it has done so far. */
    async counts({ port }) {
      const text = await askRedis(port, "INFO ALL");
      const field = (name) => Number(new RegExp(`^${name}:(\\d+)`, "m").exec(text)?.[1] ?? 0);
      const calls = (name) => Number(new RegExp(`^cmdstat_${name}:calls=(\\d+)`, "m").exec(text)?.[1] ?? 0);
      return {
        published: calls("publish"),
        subscribing: calls("subscribe") + calls("psubscribe") + calls("unsubscribe") + calls("punsubscribe"),
        reads: field("total_reads_processed"),
        in: field("total_net_input_bytes"),
        out: field("total_net_output_bytes"),
        subscriptions: field("pubsub_channels") + field("pubsub_patterns"),
      };
    },
  },
  NATS: {
    program: "nats-server",
    package: "nats-server",
    async start() {
      const monitor = await freePort();
      const server = await startServer(["nats-server", "-a", "127.0.0.1", "-p", "PORT", "-m", String(monitor)]);
      return { ...server, monitor, url: `nats://127.0.0.1:${server.port}` };
    },
    async counts({ monitor }) {
      const all = await (await fetch(`http://127.0.0.1:${monitor}/varz`, { signal: AbortSignal.timeout(5000) })).json();
      return { published: all.in_msgs, delivered: all.out_msgs, in: all.in_bytes, out: all.out_bytes, subscriptions: all.subscriptions };
    },
  },
};

// --- who takes part

const socketIo = fileURLToPath(new URL("./peers/socketio.mjs", import.meta.url));
const arke = (broker) => [arkeServer, "PORT", "automatic", "1", ...(broker ? [broker.url] : [])];
const io = (broker) => [process.execPath, socketIo, "PORT", ...(broker ? [broker.url] : [])];
const nodeModules = fileURLToPath(new URL("./node_modules/@socket.io/redis-adapter", import.meta.url));
const rows = [
  { name: "Arke, one server, no broker", family: "Arke", command: arke, reference: true },
  { name: "Arke, one server on Redis", family: "Arke", command: arke, broker: "Redis" },
  { name: "Arke, two servers on Redis", family: "Arke", command: arke, broker: "Redis", isTwo: true },
  { name: "Arke, two servers on NATS", family: "Arke", command: arke, broker: "NATS", isTwo: true },
  { name: "socket.io, one server, no broker", family: "socket.io", command: io, reference: true },
  { name: "socket.io, one server on Redis", family: "socket.io", command: io, broker: "Redis" },
  { name: "socket.io, two servers on Redis", family: "socket.io", command: io, broker: "Redis", isTwo: true },
].filter(({ name }) => new RegExp(options.only, "i").test(name));

const hasProgram = async (name) => run([name, "--version"]).then(() => true, () => false);

/** Why a row cannot be measured here. */
async function whyNot({ family, broker }) {
  if (family === "socket.io" && !isThere(nodeModules)) return "run 'npm ci --ignore-scripts' in tests/bench.";
  if (!broker) return undefined;
  const { program, package: missing } = brokers[broker];
  if (!(await hasProgram(program))) return `on Debian 12 install ${missing}.`;
  if (family !== "Arke") return undefined;
  return run([arkeServer, "--has", broker.toLowerCase()]).then(() => undefined, ({ message }) => message);
}

const taking = [];
for (const row of rows) {
  const why = await whyNot(row);
  if (why) say(`Without ${row.name}: ${why}`);
  else taking.push(row);
}
const running = {};
for (const name of new Set(taking.map(({ broker }) => broker).filter(Boolean))) running[name] = await brokers[name].start();

// --- measuring

/** What the broker did meanwhile, for each message; and the most channels that were subscribed to at a time. */
async function watch(name, work) {
  if (!name) return work();
  const { counts } = brokers[name];
  const before = await counts(running[name]);
  let subscriptions = 0;
  let isOver = false;
  const watching = (async () => {
    while (!isOver) {
      subscriptions = Math.max(subscriptions, (await counts(running[name])).subscriptions);
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  })();
  try {
    const report = await work();
    const after = await counts(running[name]);
    for (const key of Object.keys(after)) report[`broker_${key}`] = (after[key] - before[key]) / report.messages_in_all;
    return { ...report, broker_subscriptions: subscriptions, broker_subscribing: after.subscribing - before.subscribing };
  } finally {
    isOver = true;
    await watching;
  }
}

/** What the load generator reports of fresh servers, once for each of some parameters. */
async function measure(row, ...cases) {
  const command = row.command(running[row.broker]);
  const one = await startServer(command);
  const other = row.isTwo ? await startServer(command) : undefined;
  const always = {
    connections: Number(options.members),
    size: 64,
    protocol: row.family === "socket.io" ? "socket.io" : "websocket",
    patience: 10,
    ...(other && { "other-port": other.port, "other-pid": other.pid }),
    ...(row.broker && { "broker-pid": running[row.broker].pid }),
  };
  const reports = [];
  try {
    for (const parameters of cases)
      reports.push(await watch(row.broker, () => runLoad(load, "cluster", one, { ...always, ...parameters }, { timeout: 60_000 })));
  } catch (error) {
    throw new Error(`${error.message} ${one.lastWords()} ${other?.lastWords() ?? ""}`);
  } finally {
    for (const server of [one, other]) {
      if (server && !(await server.stop())) say(`  ${row.name} did not end on SIGTERM and was killed.`);
    }
  }
  return reports;
}

let failed = false;

if (options.smoke) {
  // So many that what is published until all have met, twice each 50 ms for ten seconds at most, is less than once more of each.
  const exactly = { connections: 20, messages: 500, "in-flight": 8 };
  for (const row of taking) {
    for (const report of await measure(row, { ...exactly, rate: 0 }, { ...exactly, rate: 400 })) {
      assert.equal(report.messages_in_all, 500, row.name);
      assert.equal(report.deliveries_in_all, 10_000, row.name);
      assert.ok(report.own_p50_us > 0 && (report.other_p50_us > 0) === Boolean(row.isTwo), row.name);
      if (row.isTwo) assert.ok(report.broker_published >= 1 && report.broker_published < 2, `${row.name}: ${report.broker_published} published`);
    }
  }
} else {
  const times = { "warm-up": options.quick ? 0.1 : 0.5, seconds };
  for (const row of taking) Object.assign(row, { paced: [], full: [] });
  for (let round = 0; round !== rounds; ++round) {
    const shift = round % Math.max(1, taking.length);
    for (const row of [...taking.slice(shift), ...taking.slice(0, shift)]) {
      try {
        [row.paced[round], row.full[round]] = await measure(row, { ...times, rate: Number(options.rate) },
          { ...times, rate: 0, "in-flight": Number(options["in-flight"]) });
      } catch (error) {
        say(`  ${row.name}: ${error.message}`);
        failed ||= row.family === "Arke";
      }
    }
    say(`round ${round + 1} of ${rounds}`);
  }
}

// --- telling

const digits = (value, places) => (Number.isFinite(value) ? value.toFixed(places) : "");
const micro = (value) => digits(value, value >= 100 ? 0 : value >= 10 ? 1 : 2);
const whole = (value) => (Number.isFinite(value) ? Math.round(value).toString().replace(/(?<=\d)(?=(\d{3})+$)/g, ",") : "");
const middle = (list, pick) => {
  const numbers = list.filter(Boolean).map(pick).filter(Number.isFinite);
  return numbers.length ? median(numbers) : undefined;
};

/** The median of what pick says of a row relative to the one-server row of its family, round by round. */
function relative(row, kind, pick) {
  const reference = taking.find(({ family, reference: is }) => is && family === row.family);
  if (!reference || reference === row) return undefined;
  return middle(row[kind].map((report, round) => report && reference[kind][round] && { report, other: reference[kind][round] }),
    ({ report, other }) => pick(report) / pick(other));
}

function table(title, columns) {
  const lines = [["", ...columns.map(([name]) => name)], ...taking.map((row) => [`  ${row.name}`, ...columns.map(([, cell]) => cell(row) ?? "")])];
  console.log([title, ...align(lines, (i) => i === 0), ""].join("\n"));
}

if (!options.smoke) {
  const machine = describeMachine();
  const ratio = (kind, pick) => (row) => digits(relative(row, kind, pick), 2);
  const of = (kind, key, format) => (row) => format(middle(row[kind], (report) => report[key]));
  const late = (report) => report.other_p50_us ?? report.own_p50_us;

  console.log(`${machine.processor}, ${machine.kernel}, Node ${machine.node}; ${rounds} round${rounds === 1 ? "" : "s"}, load before ${machine.load_before}`
    + `${isPinned ? "" : "; one processor for everybody"}\n`);
  table(`${options.members} members, 64 B, ${options.rate} messages/s: how long a delivery takes, in µs; ratio of the median, on the other server where there is one, to that of one server`, [
    ["own p50", of("paced", "own_p50_us", micro)],
    ["own p99", of("paced", "own_p99_us", micro)],
    ["other p50", of("paced", "other_p50_us", micro)],
    ["other p99", of("paced", "other_p99_us", micro)],
    ["other - own", (row) => micro(middle(row.paced, (report) => report.other_p50_us - report.own_p50_us))],
    ["ratio", ratio("paced", late)],
    ["CPU µs/message", of("paced", "cpu_us_per_message", micro)],
  ]);
  table(`The same, ${options["in-flight"]} messages under way at any time; CPU of all servers together`, [
    ["messages/s", of("full", "messages_per_second", whole)],
    ["deliveries/s", of("full", "per_second", whole)],
    ["CPU µs/message", of("full", "cpu_us_per_message", micro)],
    ["ratio", ratio("full", (report) => report.cpu_us_per_message)],
    ["CPU µs/delivery", of("full", "cpu_us", (value) => digits(value, 3))],
    ["broker µs/message", (row) => (row.broker ? micro(middle(row.full, (report) => report.broker_us_per_message)) : "")],
  ]);
  table("What the broker does for a message; a read of Redis takes all commands that have come", [
    ["published", of("full", "broker_published", (value) => digits(value, 2))],
    ["reads", of("full", "broker_reads", (value) => digits(value, 2))],
    ["delivered", of("full", "broker_delivered", (value) => digits(value, 2))],
    ["bytes in", of("full", "broker_in", whole)],
    ["bytes out", of("full", "broker_out", whole)],
    ["channels", of("full", "broker_subscriptions", whole)],
    ["(un)subscribe commands", of("full", "broker_subscribing", whole)],
  ]);
}

for (const broker of Object.values(running)) await broker.stop();
if (options.smoke) console.log(`counts are right: ${taking.map(({ name }) => name).join("; ")}`);
process.exit(failed ? 1 : 0);
