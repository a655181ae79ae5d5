// What is measured, and who takes part.
//
// A server:   name, command with PORT in it, what it can do.
// A scenario: name, label, mode of the load generator and its parameters, and rows. A row is a server with, where it differs,
//             parameters or a command of its own. Ratios are relative to the sum of the rows that `reference` names, and
//             without it to the server that the whole run takes for it.

/** All that a WebSocket server with rooms can be asked. */
const common = ["echo", "broadcast", "latency", "idle", "handshakes"];

export function makeServers(programs, peers, folder) {
  const arke = (loop, threads = 1) => [programs.arke, "PORT", loop, String(threads)];
  const own = [...common, "rooms", "publishers"];
  const servers = [
    { name: "arke", label: "Arke, epoll", command: arke("epoll"), twoLoops: arke("epoll", 2), can: own, own: true },
    {
      name: "arke-io_uring",
      label: "Arke, io_uring",
      command: arke("io_uring"),
      twoLoops: arke("io_uring", 2),
      can: own,
      own: true,
      descriptor: "anon_inode:[io_uring]",
    },
    { name: "arke-portable", label: "Arke, portable", command: arke("portable"), can: ["portable"], own: true },
  ];
  for (const { name, command } of peers) {
    servers.push({ name, label: name, command: ["bash", "-c", `exec ${command}`], can: common, binary: true });
  }
  const program = (name, label, can, extra = {}) =>
    servers.push({ name, label, command: [programs.peer(name), "PORT"], needs: programs.peer(name), can, binary: true, ...extra });
  const script = (name, label, can, extra = {}) =>
    servers.push({
      name,
      label,
      command: [process.execPath, `${folder}/peers/${name}.mjs`, "PORT"],
      needs: `${folder}/peers/${name}.mjs`,
      module: `${folder}/node_modules/${name === "socketio" ? "socket.io" : name}`,
      can,
      ...extra,
    });
  program("epoll_echo", "plain epoll echo, no WebSocket", ["echo"], {
    short: "plain epoll echo",
    parameters: { protocol: "raw" },
  });
  program("beast", "Boost.Beast", common);
  program("websocketpp", "websocketpp", common);
  program("libwebsockets", "libwebsockets", common);
  script("ws", "npm ws", common);
  script("socketio", "npm socket.io", ["event broadcast"], { parameters: { protocol: "socket.io" } });
  return servers;
}

const bytes = (size) => (size % 1024 === 0 ? `${size / 1024} KiB` : `${size} B`);
const thousands = (n) => String(n).replace(/(?<=\d)(?=(\d{3})+$)/g, ",");
const burst = (n) => (n === 1 ? "ping-pong" : `${n} in flight`);
const connections = (n) => (n === 1 ? "1 connection" : `${thousands(n)} connections`);
const numbers = { 1: "one", 8: "eight" };

/**
 * All scenarios. `orderSize` is the size of the text of the event "order". Those marked `quick` are what --quick runs;
 * those marked `more` what only --all runs; `counted` those whose system calls and instructions are counted.
 */
export function makeScenarios(servers, orderSize, { quick }) {
  const who = (ability) => servers.filter(({ can }) => can.includes(ability));
  const find = (name) => servers.filter((server) => server.name === name);
  const rowsOf = (list) => list.map((server) => ({ name: server.name, server }));
  const scenarios = [];

  // --- echo
  const echoes = new Set(["100/1/20", "1/1/20", "1000/1/20", "1/16/20", "100/16/20", "1000/16/20", "100/1/512", "100/16/512"]);
  for (const large of [16384, 65536]) echoes.add(`100/1/${large}`);
  const quickEchoes = new Set(["100/1/20", "100/16/20", "1000/1/20", "100/1/65536"]);
  const onPortable = new Set(["100/1/20", "100/16/20", "100/1/65536"]);
  for (const size of [20, 512, 16384, 65536]) {
    for (const inFlight of [1, 16]) {
      for (const count of [1, 100, 1000]) {
        const key = `${count}/${inFlight}/${size}`;
        const list = onPortable.has(key) ? servers.filter(({ can }) => can.includes("echo") || can.includes("portable")) : who("echo");
        scenarios.push({
          name: `echo/${key}`,
          label: `echo, ${connections(count)}, ${burst(inFlight)}, ${bytes(size)}`,
          mode: "echo",
          parameters: { connections: count, "in-flight": inFlight, size },
          rows: rowsOf(list),
          quick: quickEchoes.has(key),
          more: !echoes.has(key),
          counted: key === "100/1/20" || key === "100/16/20",
        });
      }
    }
  }

  // --- events, beside Arke's own native echo of the same data
  const event = (kind, what, inFlight, size, peers, beside = []) => {
    const parameters = { connections: 100, "in-flight": inFlight, size };
    const native = find("arke").map((server) => ({ name: "native", label: "Arke, epoll: native echo", short: "native echo", server, parameters }));
    const takers = ["arke", "arke-io_uring", ...peers].flatMap(find);
    scenarios.push({
      name: `event/${kind}/${inFlight}`,
      label: `event, ${what}, 100 connections, ${burst(inFlight)}, ${bytes(size)}`,
      mode: "echo",
      rows: [...native, ...beside, ...takers.map((server) => ({ name: server.name, server, parameters: { ...parameters, kind } }))],
      reference: ["native", ...beside.map(({ name }) => name)],
      quick: inFlight === 16 && kind !== "view",
      counted: inFlight === 16 && kind === "string",
    });
  };
  for (const inFlight of [1, 16]) event("string", "string handler", inFlight, 20, ["socketio"]);
  event("view", "string_view handler", 16, 20, []);
  event("number", "integer handler", 16, 15, []);
  const parseAndDump = [{ name: "json_cost", label: "nlohmann/json: parse and dump the same text", short: "JSON: parse, dump", jsonCost: true }];
  for (const inFlight of [1, 16]) event("json", "JSON struct handler", inFlight, orderSize, ["socketio"], parseAndDump);

  // --- rooms
  const kinds = [...who("broadcast"), ...who("event broadcast")];
  for (const members of [1000, 5000]) {
    for (const size of [64, 1024]) {
      for (const inFlight of [1, 8]) {
        scenarios.push({
          name: `broadcast/${members}/${inFlight}/${size}`,
          label: `broadcast to ${thousands(members)} members, ${numbers[inFlight]} in flight, ${bytes(size)}`,
          per: "delivery",
          mode: "broadcast",
          parameters: { connections: members, "in-flight": inFlight, size },
          rows: rowsOf(kinds),
          quick: members === 1000 && size === 64,
        });
      }
    }
  }
  for (const inFlight of [1, 8]) {
    for (const server of who("publishers")) {
      const parameters = { connections: 1000, "in-flight": inFlight, size: 64 };
      const row = (name, what, extra) => ({ name: `${server.name}: ${name}`, label: `${server.label}: ${what}`, short: name, server, parameters, ...extra });
      scenarios.push({
        name: `publisher/${server.name}/${inFlight}`,
        label: `${server.label}: who publishes to 1,000 members, ${numbers[inFlight]} in flight, 64 B`,
        per: "delivery",
        mode: "broadcast",
        rows: [
          row("same loop", "a connection of the members' loop"),
          row("other loop", "a connection of another loop", { command: server.twoLoops, parameters: { ...parameters, publisher: "loop" } }),
          row("other thread", "a thread that is no loop", { parameters: { ...parameters, publisher: "thread" } }),
        ],
        reference: [`${server.name}: same loop`],
        quick: inFlight === 8,
      });
    }
  }
  scenarios.push({
    name: "rooms",
    label: "10,000 rooms of 5 (1,000 connections in 50 rooms each), 100 messages in flight, 64 B",
    per: "delivery",
    mode: "rooms",
    parameters: { connections: 1000, rooms: 10_000, "room-size": 5, "in-flight": 100, size: 64 },
    rows: rowsOf(who("rooms")),
    reference: ["arke"],
    quick: true,
  });

  // --- the rest
  scenarios.push({
    name: "latency",
    label: "latency at 20,000 messages/s offered, 100 connections, 20 B",
    mode: "latency",
    parameters: { connections: 100, rate: 20_000, size: 20 },
    rows: rowsOf(who("latency")),
    quick: true,
  });
  const idle = quick ? 2000 : 10_000;
  scenarios.push({
    name: "idle",
    label: `idle: memory of each of ${thousands(idle)} connections`,
    mode: "idle",
    parameters: { connections: idle, settle: quick ? 0.3 : 1 },
    figure: "user_bytes",
    rows: rowsOf(who("idle")),
    quick: true,
  });
  scenarios.push({
    name: "handshakes",
    label: "handshakes, 64 at a time",
    per: "handshake",
    mode: "handshakes",
    parameters: { connections: 64 },
    rows: rowsOf(who("handshakes")),
    quick: true,
  });

  // A native echo or a publisher beside which nothing is shown says nothing.
  const isBeside = ({ name, reference }) => name.startsWith("event/") && reference;
  return scenarios
    .map((scenario) => ({ figure: "cpu_us", per: "message", reference: [], ...scenario }))
    .filter((scenario) => scenario.rows.length > (isBeside(scenario) ? scenario.reference.length : 0));
}
