// The benchmark's server on npm ws: "S" subscribes to the room, what begins with B goes to the room, everything else is
// echoed, text as text and binary as binary.
//
//     node ws.mjs PORT
import { WebSocketServer } from "ws";

const port = Number(process.argv[2]);
const room = new Set();

const server = new WebSocketServer({
  host: "127.0.0.1",
  port,
  backlog: 4096,
  clientTracking: false,
  maxPayload: 16 * 1024 * 1024,
  perMessageDeflate: false,
});

const B = "B".charCodeAt(0);
const S = "S".charCodeAt(0);

server.on("connection", (socket) => {
  socket.on("error", () => {});
  socket.on("close", () => room.delete(socket));
  socket.on("message", (data, isBinary) => {
    if (data[0] === B) for (const member of room) member.send(data, { binary: isBinary });
    else if (data[0] === S && data.length === 1) room.add(socket);
    else socket.send(data, { binary: isBinary });
  });
});
server.on("error", (error) => {
  console.error(`ws: ${error.message}`);
  process.exit(1);
});
server.on("listening", () => console.log(`listening on ${port}`));
process.on("SIGTERM", () => process.exit(0));
