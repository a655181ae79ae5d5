// What permessage-deflate saves and costs for a feed of JSON ticks: node compression.mjs FEED [--rounds N] [--markdown]
//
// Server CPU for each message, its bytes on the wire, and memory for each connection; Arke beside npm's ws. The client is a plain
// socket that counts frames and inflates nothing, so that the server is what is measured.
import { readFileSync, readdirSync } from "node:fs";
import net from "node:net";
import { fileURLToPath } from "node:url";
import { sleep, startServer } from "./process.mjs";

const words = process.argv.slice(2);
const feed = words[0];
const number = (name, otherwise) => (words.includes(name) ? Number(words[words.indexOf(name) + 1]) : otherwise);
const rounds = number("--rounds", 3);
const wsFeed = fileURLToPath(new URL("./peers/ws_feed.mjs", import.meta.url));

const sizes = [200, 1_000, 10_000];
const modes = [["off"], ["alone"], ["keeping", "11", "4"], ["keeping", "15", "8"]];
const names = { off: "off", alone: "no takeover", "keeping 11 4": "takeover, 11 bits", "keeping 15 8": "takeover, 15 bits" };
const servers = {
  Arke: (mode) => [feed, "PORT", ...mode],
  ws: (mode) => [process.execPath, wsFeed, "PORT", ...mode],
};

/** Time of all threads of a process, in nanoseconds. */
const cpu = (pid) => readdirSync(`/proc/${pid}/task`)
  .reduce((sum, task) => sum + Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ")[0]), 0);
const memory = (pid) => Number(/VmRSS:\s*(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) * 1024;

/** A connection that counts what comes. */
class Listener {
  messages = 0;
  bytes = 0;
  #left = 0;
  #header = Buffer.alloc(0);
  #wanted = Infinity;

  static open(port) {
    return new Promise((resolve, reject) => {
      const one = new Listener();
      one.socket = net.connect(port, "127.0.0.1").on("error", reject);
      one.socket.write(`GET / HTTP/1.1\r\nHost: localhost:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n`
        + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n");
      let head = "";
      const onHead = (data) => {
        head += data.toString("latin1");
        if (!head.includes("\r\n\r\n")) return;
        one.socket.off("data", onHead).on("data", (more) => one.#read(more));
        resolve(one);
      };
      one.socket.on("data", onHead);
    });
  }

  say(text) {
    const payload = Buffer.from(text);
    this.socket.write(Buffer.concat([Buffer.from([0x81, 0x80 | payload.length, 0, 0, 0, 0]), payload]));
  }

  /** Waits for so many messages in all. */
  hears(count) {
    return new Promise((resolve) => {
      this.#wanted = count;
      this.resolve = resolve;
      if (this.messages >= count) resolve();
    });
  }

  #read(data) {
    this.bytes += data.length;
    for (let at = 0; at < data.length;) {
      if (this.#left > 0) {
        const part = Math.min(this.#left, data.length - at);
        this.#left -= part;
        at += part;
        if (this.#left === 0) this.#done();
        continue;
      }
      this.#header = Buffer.concat([this.#header, data.subarray(at, at + 1)]);
      ++at;
      const h = this.#header;
      if (h.length < 2) continue;
      const size = h.length === 2 && h[1] < 126 ? h[1] : h[1] === 126 && h.length === 4 ? h.readUInt16BE(2)
        : h[1] === 127 && h.length === 10 ? Number(h.readBigUInt64BE(2)) : -1;
      if (size < 0) continue;
      this.#header = Buffer.alloc(0);
      this.#left = size;
      if (size === 0) this.#done();
    }
  }

  #done() {
    if (++this.messages >= this.#wanted) this.resolve();
  }
}

async function measure(command) {
  const server = await startServer(command);
  const result = { cpu: {}, wire: {}, shared: {} };
  const crowd = await Promise.all(Array.from({ length: 20 }, () => Listener.open(server.port)));
  const all = async (what, size, count) => {
    const heard = crowd.map((one) => one.hears(one.messages + count));
    const bytes = crowd.reduce((sum, one) => sum + one.bytes, 0);
    const before = cpu(server.pid);
    if (what === "D") crowd.forEach((one) => one.say(`D ${size} ${count}`));
    else crowd[0].say(`A ${size} ${count}`);
    await Promise.all(heard);
    const messages = crowd.length * count;
    return { cpu: (cpu(server.pid) - before) / messages, wire: (crowd.reduce((sum, one) => sum + one.bytes, 0) - bytes) / messages };
  };
  for (const size of sizes) {
    await all("D", size, 50);
    const direct = await all("D", size, size > 5_000 ? 100 : 500);
    result.cpu[size] = direct.cpu;
    result.wire[size] = direct.wire;
    result.shared[size] = (await all("A", size, size > 5_000 ? 100 : 500)).cpu;
  }
  // Memory: each of many has heard a few ticks of its own.
  const idle = memory(server.pid);
  const many = [];
  for (let n = 0; n !== 400; ++n) many.push(await Listener.open(server.port));
  for (const one of many) {
    one.say("D 1000 2");
    await one.hears(2);
  }
  await sleep(200);
  result.memory = (memory(server.pid) - idle) / many.length;
  [...crowd, ...many].forEach((one) => one.socket.destroy());
  await server.stop();
  return result;
}

const median = (list) => list.sort((a, b) => a - b)[list.length >> 1];
const rows = {};
for (let round = 0; round !== rounds; ++round) {
  for (const [name, command] of Object.entries(servers)) {
    for (const mode of modes) {
      (rows[`${name}, ${names[mode.join(" ")]}`] ??= []).push(await measure(command(mode)));
    }
  }
}

const micro = (nanoseconds) => (nanoseconds / 1000).toFixed(nanoseconds < 10_000 ? 1 : 0);
console.log(`| | ${sizes.map((s) => `wire, ${s} B | CPU | broadcast`).join(" | ")} | memory |`);
console.log(`|---|${sizes.map(() => "---|---|---|").join("")}---|`);
for (const [name, results] of Object.entries(rows)) {
  const of = (pick) => median(results.map(pick));
  console.log(`| ${name} | ${sizes.map((size) => `${Math.round(of((r) => r.wire[size]))} B | ${micro(of((r) => r.cpu[size]))} µs | ${micro(of((r) => r.shared[size]))} µs`).join(" | ")} | ${(of((r) => r.memory) / 1024).toFixed(1)} KiB |`);
}
process.exit(0);
