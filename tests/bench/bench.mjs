// Runs the benchmark; tests/bench/run builds everything, starts this, and tells the options at its top.
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { count, toolOf } from "./count.mjs";
import { plot } from "./plot.mjs";
import { allowedProcessors, descriptors, isPinned, isThere, run, runLoad, runOnServerProcessor, startServer } from "./process.mjs";
import { describeMachine, summarise, tableOf, tableOfCounts } from "./report.mjs";
import { makeScenarios, makeServers } from "./scenarios.mjs";

const folder = dirname(fileURLToPath(import.meta.url));
const root = resolve(folder, "../..");
const built = join(root, ".build/bench/tests/bench");
const programs = {
  arke: join(built, "arke_server"),
  load: join(built, "load"),
  jsonCost: join(built, "json_cost"),
  peer: (name) => join(built, name),
};

function refuse(sentence) {
  console.error(sentence);
  process.exit(2);
}

const say = (line) => console.error(line);

// --- what is wanted

function readOptions() {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        quick: { type: "boolean", default: false },
        all: { type: "boolean", default: false },
        list: { type: "boolean", default: false },
        syscalls: { type: "boolean", default: false },
        instructions: { type: "boolean", default: false },
        scenario: { type: "string" },
        only: { type: "string" },
        reference: { type: "string" },
        rounds: { type: "string" },
        seconds: { type: "string" },
        peer: { type: "string", multiple: true, default: [] },
        json: { type: "string", default: join(root, ".build/bench/results.json") },
        svg: { type: "string", default: join(root, ".build/bench/results.svg") },
      },
    }));
  } catch (error) {
    refuse(`${error.message}. tests/bench/run --help tells all options.`);
  }
  const positive = (name, fallback) => {
    const value = values[name] === undefined ? fallback : Number(values[name]);
    if (!(value > 0)) refuse(`--${name}: '${values[name]}' is no number above 0.`);
    return value;
  };
  const peers = values.peer.map((text) => {
    const [, name, command] = /^([^=]+)=(.*\bPORT\b.*)$/s.exec(text) ?? refuse(`--peer: write it as NAME='COMMAND PORT', not '${text}'.`);
    return { name, command };
  });
  let scenario;
  try {
    scenario = values.scenario && new RegExp(values.scenario);
  } catch (error) {
    refuse(`--scenario: ${error.message}.`);
  }
  return {
    ...values,
    peers,
    scenario,
    rounds: Math.ceil(positive("rounds", values.quick ? 1 : 5)),
    seconds: positive("seconds", values.quick ? 0.4 : 1.5),
    warmUp: values.quick ? 0.2 : 0.5,
    only: values.only?.split(","),
    reference: values.reference ?? peers[0]?.name ?? "beast",
  };
}

// --- who can take part

/** Leaves out who cannot be started here, and says why. */
async function present(servers) {
  const here = [];
  for (const server of servers) {
    const missing = [server.needs, server.module].find((file) => file && !isThere(file));
    const why = missing ? `${missing} is not there.` : server.descriptor && (await whyNot(server));
    if (why) say(`Without ${server.label}: ${why}`);
    else here.push(server);
  }
  return here;
}

let aServerOfOursFails = false;

/** Why a loop that not every system has is not measured. That the kernel refuses it is no fault; that it does not serve is. */
async function whyNot(server) {
  let started;
  try {
    started = await startServer(server.command);
    if (!descriptors(started.pid).includes(server.descriptor)) {
      return "this Arke was built without it, or the kernel or a sandbox refuses it.";
    }
    await runLoad(programs.load, "echo", started, { connections: 2, messages: 100, patience: 3 });
    return undefined;
  } catch (error) {
    aServerOfOursFails = true;
    return `it does not work: ${error.message}`;
  } finally {
    await started?.stop();
  }
}

// --- measuring

async function measureRow(scenario, row, options) {
  if (row.jsonCost) {
    const { ns } = JSON.parse(await runOnServerProcessor([programs.jsonCost, String(options.seconds / 2)]));
    return { cpu_us: ns / 1000 };
  }
  const parameters = { ...scenario.parameters, ...row.server.parameters, ...row.parameters };
  const times = scenario.mode === "idle" ? {} : { "warm-up": options.warmUp, seconds: options.seconds };
  if (options.quick) times.patience = 5;
  const server = await startServer(row.command ?? row.server.command);
  try {
    return await runLoad(programs.load, scenario.mode, server, { ...times, ...parameters });
  } finally {
    if (!(await server.stop())) say(`  ${row.label} did not end on SIGTERM and was killed.`);
  }
}

/** Every row once for each round, each round in another order. */
async function measure(scenario, options) {
  for (const row of scenario.rows) row.rounds = [];
  for (let round = 0; round < options.rounds; ++round) {
    const shift = round % scenario.rows.length;
    for (const row of [...scenario.rows.slice(shift), ...scenario.rows.slice(0, shift)]) {
      try {
        row.rounds[round] = await measureRow(scenario, row, options);
      } catch (error) {
        row.rounds[round] = { error: error.message };
        say(`  ${row.label}: ${error.message}`);
      }
    }
  }
  summarise(scenario);
}

async function countRow(what, scenario, row) {
  const drive = async (wrapper, messages) => {
    const server = await startServer(row.command ?? row.server.command, { wrapper, patience: 60_000 });
    try {
      if (row.server.descriptor && !descriptors(server.pid).includes(row.server.descriptor))
        throw new Error(`under ${toolOf(what)} it cannot use io_uring`);
      const parameters = { ...scenario.parameters, ...row.server.parameters, ...row.parameters, messages, patience: 30 };
      return (await runLoad(programs.load, scenario.mode, server, parameters, { timeout: 240_000 })).messages_in_all;
    } finally {
      await server.stop();
    }
  };
  return count(what, drive);
}

async function countAll(what, scenarios) {
  try {
    await run([toolOf(what), "--version"]);
  } catch {
    say(`Without ${what}: ${toolOf(what)} is not installed.`);
    return [];
  }
  const entries = [];
  for (const scenario of scenarios) {
    if (scenario.mode !== "echo") {
      say(`${what}: counted for echoes and events, so not for '${scenario.name}'.`);
      continue;
    }
    for (const row of scenario.rows) {
      // callgrind runs machine code of its own making, which Node's, made at run time, is no example of.
      if (row.jsonCost || (what === "instructions" && !row.server.own && !row.server.binary)) continue;
      say(`${what}: ${scenario.label}: ${row.label}`);
      const entry = { what, scenario: scenario.name, label: scenario.label, server: row.label };
      try {
        entries.push({ ...entry, ...(await countRow(what, scenario, row)) });
      } catch (error) {
        entries.push({ ...entry, error: error.message });
        say(`  ${error.message}`);
      }
    }
  }
  return entries;
}

// --- the run

const options = readOptions();
for (const program of [programs.arke, programs.load, programs.jsonCost]) {
  if (!isThere(program)) refuse(`${program} is not built: start the benchmark by tests/bench/run.`);
}
const everybody = makeServers(programs, options.peers, folder);
for (const name of [...(options.only ?? []), ...(options.reference === "beast" ? [] : [options.reference])]) {
  if (!everybody.some((server) => server.name === name))
    refuse(`There is no server '${name}'. There are ${everybody.map((server) => server.name).join(", ")}.`);
}
const wanted = everybody.filter(({ name }) => !options.only || options.only.includes(name));

const orderSize = JSON.parse(await run([programs.jsonCost, "0"])).bytes;
const servers = options.list ? wanted : await present(wanted);
const isCounting = options.syscalls || options.instructions;
const isWanted = ({ name, label, quick, more, counted }) => {
  // Who writes a scenario's very name gets it, also one that the default leaves out.
  if (options.scenario) return (options.scenario.test(name) || options.scenario.test(label)) && (!more || options.all || options.scenario.source === name);
  if (isCounting) return counted;
  return options.quick ? quick : options.all || !more;
};
const scenarios = makeScenarios(servers, orderSize, options).filter(isWanted);

if (options.list) {
  console.log(`servers:   ${servers.map(({ name }) => name).join(", ")}`);
  for (const { name, label } of scenarios) console.log(`${name.padEnd(24)} ${label}`);
  process.exit(0);
}
if (!scenarios.length) refuse("No scenario matches: tests/bench/run --list tells their names.");

const machine = describeMachine();
say(`${machine.processor}, ${machine.cores} cores, ${machine.kernel}, ${machine.compiler}`);
say(
  isPinned
    ? `Servers on processor ${allowedProcessors()[0]}, the load generator on ${allowedProcessors()[1]}.`
    : "There is only one processor: server and load generator share it, so that rates say little; CPU times stand.",
);
if (machine.load_before > 0.5) say(`Others are busy on this machine (load ${machine.load_before}): the figures will be noisy.`);

const results = { machine, options: { rounds: options.rounds, seconds: options.seconds, reference: options.reference }, scenarios: [], counts: [] };

function write() {
  for (const file of [options.json, options.svg]) mkdirSync(dirname(resolve(file)), { recursive: true });
  writeFileSync(options.json, `${JSON.stringify(results, null, 1)}\n`);
  const title = `Server CPU time relative to ${everybody.find(({ name }) => name === options.reference)?.label ?? options.reference}`;
  if (results.scenarios.length) writeFileSync(options.svg, plot({ ...results, title }));
}

/** A row is called as its server, unless it has a name of its own. */
function name({ rows }) {
  for (const row of rows) {
    row.label ??= row.server.label;
    row.short ??= row.server?.short;
  }
}

const begin = Date.now();
const elapsed = () => `${((Date.now() - begin) / 1000).toFixed(0)} s`;
if (!isCounting) {
  for (const [i, scenario] of scenarios.entries()) {
    name(scenario);
    if (!scenario.reference.length && scenario.rows.some(({ name }) => name === options.reference))
      scenario.reference = [options.reference];
    say(`[${i + 1}/${scenarios.length}, ${elapsed()}] ${scenario.label}`);
    await measure(scenario, options);
    results.scenarios.push({
      ...scenario,
      rows: scenario.rows.map(({ server, command, ...row }) => ({ ...row, server: server?.name ?? row.name })),
    });
    write();
  }
}
for (const what of ["syscalls", "instructions"]) {
  if (isCounting ? !options[what] : options.quick) continue;
  scenarios.forEach(name);
  results.counts.push(...(await countAll(what, isCounting ? scenarios : scenarios.filter(({ counted }) => counted))));
}
write();

for (const scenario of results.scenarios) console.log(tableOf(scenario));
if (results.counts.length) console.log(tableOfCounts(results.counts));
console.log(`${options.rounds} round${options.rounds === 1 ? "" : "s"}, ${elapsed()}. ${options.json}${results.scenarios.length ? `, ${options.svg}` : ""}`);

// A peer that fails is told in the table. Arke failing is a fault.
const ours = new Set(everybody.filter(({ own }) => own).map(({ name }) => name));
const failed = aServerOfOursFails || results.scenarios.some(({ rows }) => rows.some((row) => row.error && ours.has(row.server)));
process.exit(failed ? 1 : 0);
