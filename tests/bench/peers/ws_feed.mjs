// The feed of compression_feed.cpp, by npm's ws: node ws_feed.mjs PORT off | alone | keeping BITS MEMORY_LEVEL
import { WebSocketServer } from "ws";

const [port, mode, bits, memoryLevel] = process.argv.slice(2);
const alone = mode === "alone";

const made = new Map();
export function ticks(size) {
  if (made.has(size)) return made.get(size);
  let state = 1;
  const draw = (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return String((state >>> 8) % below);
  };
  const all = [];
  while (all.length !== 256) {
    let text = `{"type":"tick","quotes":[`;
    while (text.length < size) {
      text += `{"symbol":"ARKE${draw(100)}","bid":${draw(1000)}.${draw(100)},"ask":${draw(1000)}.${draw(100)}`
        + `,"volume":${draw(100000)},"time":"2026-11-26T09:${draw(60)}:${draw(60)}.${draw(1000)}Z"},`;
    }
    all.push(text.slice(0, size));
  }
  made.set(size, all);
  return all;
}

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(port),
  perMessageDeflate: mode !== "off" && {
    threshold: 0,
    serverNoContextTakeover: alone,
    clientNoContextTakeover: alone,
    ...(mode === "keeping" && { serverMaxWindowBits: Number(bits), clientMaxWindowBits: Number(bits) }),
    zlibDeflateOptions: { level: 6, memLevel: mode === "keeping" ? Number(memoryLevel) : 8 },
  },
});
server.on("connection", (socket) => {
  socket.on("message", (data) => {
    const [what, size, count] = String(data).split(" ");
    const all = ticks(Number(size));
    for (let n = 0; n !== Number(count); ++n) {
      const text = all[n % all.length];
      if (what === "A") server.clients.forEach((each) => each.send(text));
      else socket.send(text);
    }
  });
});
