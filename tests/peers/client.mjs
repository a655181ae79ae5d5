// Arke's client with npm's ws, or with Python's websockets: node client.mjs CLIENT_CHECKS [PYTHON]
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { within } from "../support/program.mjs";

const { WebSocketServer } = createRequire(new URL("./package.json", import.meta.url))("ws");
const [checks, python] = process.argv.slice(2);

/** Runs client_checks; every fault that it finds is a line. */
async function check(peer, url) {
    const child = spawn(checks, [url], { stdio: ["ignore", "inherit", "pipe"] });
    process.on("exit", () => child.kill("SIGKILL"));
    let said = "";
    child.stderr.on("data", (data) => { said += data; });
    const code = await within(60_000, `the checks with ${peer}`, new Promise((resolve) => child.on("close", resolve)));
    assert.equal(`${code} ${said}`, "0 ", peer);
    console.log(`passed: ${peer}`);
}

if (python) {
    const script = fileURLToPath(new URL("./echo_server.py", import.meta.url));
    const child = spawn(python, [script], { stdio: ["pipe", "pipe", "inherit"] });
    process.on("exit", () => child.kill("SIGKILL"));
    const url = await within(20_000, "websockets listens",
        new Promise((resolve) => createInterface({ input: child.stdout }).once("line", resolve)));
    await check("Python's websockets", url);
    child.stdin.end();
} else {
    const server = new WebSocketServer({
        host: "127.0.0.1",
        port: 0,
        maxPayload: 4 << 20,
        handleProtocols: (offered) => (offered.has("chat") ? "chat" : false),
    });
    const closes = [];
    const three = new Promise((resolve) => server.on("connection", (socket) => {
        socket.on("close", (code, reason) => closes.push(`${code} ${reason}`) === 3 && resolve());
        socket.on("message", (data, isBinary) => {
            const text = isBinary ? "" : String(data);
            if (text === "fragments") {
                socket.send("three ", { fin: false });
                socket.ping("between");
                socket.send("parts ", { fin: false });
                socket.send("here", { fin: true });
            } else if (text === "close") {
                socket.close(4002, "as you asked");
            } else if (text === "drop") {
                socket.terminate();
            } else if (text === "protocol") {
                socket.send(socket.protocol || "none");
            } else {
                socket.send(isBinary ? data : text);
            }
        });
    }));
    await within(5_000, "ws listens", new Promise((resolve) => server.on("listening", resolve)));
    await check("npm's ws", `ws://localhost:${server.address().port}/`);
    await within(10_000, "three closes", three); // the client's end may be seen before that of its connection
    assert.deepEqual(closes.slice(0, 3), ["1006 ", "4002 ", "4001 au revoir é"]);
}
process.exit(0);
