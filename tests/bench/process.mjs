// Starts servers and the load generator, pinned to processors of their own, and ends them by their process id.
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";

import { freePort } from "../support/free_port.mjs";

const started = new Set();
process.on("exit", () => started.forEach((child) => child.kill("SIGKILL")));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(130));

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** The processors that this process may use. */
export function allowedProcessors() {
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync("/proc/self/status", "utf8"))[1];
  return list.split(",").flatMap((range) => {
    const [first, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

const [serverProcessor, loadProcessor] = allowedProcessors();

/** Whether there is a processor for each side. */
export const isPinned = loadProcessor !== undefined;

const pinned = (processor, command) => (isPinned ? ["taskset", "-c", String(processor), ...command] : command);

const linesOf = (file) => {
  try {
    return readFileSync(file, "utf8").split("\n");
  } catch {
    return [];
  }
};

/** The inode of the socket that listens on a port, by the kernel's table: connecting to find out would be a connection. */
function listeningInode(port) {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  for (const line of [...linesOf("/proc/net/tcp"), ...linesOf("/proc/net/tcp6")]) {
    const fields = line.trim().split(/\s+/);
    if (fields[3] === "0A" && fields[1].endsWith(suffix)) return fields[9];
  }
  return undefined;
}

/** A process and all that it started. */
function family(pid) {
  const children = new Map();
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const stat = linesOf(`/proc/${entry}/stat`)[0];
    if (!stat) continue;
    const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
    children.set(parent, [...(children.get(parent) ?? []), Number(entry)]);
  }
  const all = [pid];
  for (const one of all) all.push(...(children.get(one) ?? []));
  return all;
}

/** What the descriptors of a process are. */
export function descriptors(pid) {
  try {
    return readdirSync(`/proc/${pid}/fd`).map((fd) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`);
      } catch {
        return "";
      }
    });
  } catch {
    return [];
  }
}

const within = (milliseconds, promise) =>
  Promise.race([promise, sleep(milliseconds).then(() => undefined)]);

/**
 * Starts a server and waits until it listens. `command` is a list in which PORT stands for the port; `wrapper` is put
 * before it (strace, valgrind).
 */
export async function startServer(command, { wrapper = [], patience = 20_000 } = {}) {
  const port = await freePort();
  const words = [...wrapper, ...command.map((word) => word.replaceAll("PORT", String(port)))];
  const [program, ...parameters] = pinned(serverProcessor, words);
  const child = spawn(program, parameters, { stdio: ["ignore", "ignore", "pipe"] });
  started.add(child);
  let said = "";
  child.stderr.on("data", (data) => (said = (said + data).slice(-2000)));
  const ended = new Promise((resolve) => {
    child.on("exit", (code, signal) => {
      started.delete(child);
      resolve(code ?? signal);
    });
    child.on("error", (error) => {
      started.delete(child);
      said += error.message;
      resolve("not started");
    });
  });
  const lastWords = () => said.trim().split("\n").slice(-3).join(" ");

  const deadline = Date.now() + patience;
  let pid;
  while (pid === undefined) {
    if (!started.has(child)) throw new Error(`the server ended (${await ended}): ${lastWords()}`);
    if (Date.now() > deadline) {
      child.kill("SIGKILL");
      throw new Error(`the server does not listen on port ${port} after ${patience / 1000} s: ${lastWords()}`);
    }
    const inode = listeningInode(port);
    // Whoever has the socket is the server, however many shells stand before it.
    if (inode) pid = family(child.pid).find((one) => descriptors(one).includes(`socket:[${inode}]`));
    if (pid === undefined) await sleep(10);
  }

  return {
    port,
    pid,
    /** True when it ended by itself and well; what had to be killed says so. */
    async stop() {
      if (started.has(child)) {
        try {
          process.kill(pid, "SIGTERM");
        } catch {
          // It has ended in this moment.
        }
      }
      if ((await within(8000, ended)) !== undefined) return true;
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // As above.
      }
      await within(2000, ended);
      child.kill("SIGKILL");
      await ended;
      return false;
    },
    lastWords,
  };
}

/** Runs a program to its end and gives back what it printed. */
export async function run(command, { processor, timeout = 120_000 } = {}) {
  const words = processor === undefined ? command : pinned(processor, command);
  const child = spawn(words[0], words.slice(1), { stdio: ["ignore", "pipe", "pipe"] });
  started.add(child);
  let output = "";
  let said = "";
  child.stdout.on("data", (data) => (output += data));
  child.stderr.on("data", (data) => (said = (said + data).slice(-2000)));
  const timer = setTimeout(() => child.kill("SIGKILL"), timeout);
  const code = await new Promise((resolve) => {
    child.on("close", (exit, signal) => resolve(exit ?? signal));
    child.on("error", (error) => {
      said += error.message;
      resolve("not started");
    });
  });
  clearTimeout(timer);
  started.delete(child);
  if (code === "SIGKILL") throw new Error(`${command[0]} took more than ${timeout / 1000} s`);
  if (code !== 0) throw new Error(said.trim() || `${command[0]} ended with ${code}`);
  return output;
}

export const runOnServerProcessor = (command, options) => run(command, { ...options, processor: serverProcessor });

/** Runs the load generator against a server; gives back what it measured. */
export async function runLoad(program, mode, server, parameters, options) {
  const words = Object.entries(parameters).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const command = [program, mode, String(server.port), "--pid", String(server.pid), ...words];
  return JSON.parse(await run(command, { ...options, processor: loadProcessor }));
}

export const isThere = existsSync;
