// The benchmark's server on Socket.IO, by WebSocket only: "echo" and "order" answer with the same event and argument, "S"
// joins the room, "B" goes to the room.
//
//     node socketio.mjs PORT [REDIS_URL]       with a URL, other servers there have the same room
import { createServer } from "node:http";
import { Server } from "socket.io";

const port = Number(process.argv[2]);
const redis = process.argv[3];
const http = createServer();
const io = new Server(http, {
  transports: ["websocket"],
  perMessageDeflate: false,
  httpCompression: false,
  serveClient: false,
  maxHttpBufferSize: 16 * 1024 * 1024,
});

if (redis) {
  const { Redis } = await import("ioredis");
  const { createAdapter } = await import("@socket.io/redis-adapter");
  const publisher = new Redis(redis);
  const subscriber = publisher.duplicate();
  for (const client of [publisher, subscriber]) client.on("error", (error) => console.error(`redis: ${error.message}`));
  io.adapter(createAdapter(publisher, subscriber));
}

// What its documentation advises for memory: nobody here asks for the first request again.
io.engine.on("connection", (raw) => {
  raw.request = null;
});

io.on("connection", (socket) => {
  socket.on("echo", (text) => socket.emit("echo", text));
  socket.on("order", (order) => socket.emit("order", order));
  socket.on("S", () => socket.join("room"));
  socket.on("B", (text) => io.to("room").emit("B", text));
});

http.on("error", (error) => {
  console.error(`socket.io: ${error.message}`);
  process.exit(1);
});
http.listen({ host: "127.0.0.1", port, backlog: 4096 }, () => console.log(`listening on ${port}`));
process.on("SIGTERM", () => process.exit(0));
