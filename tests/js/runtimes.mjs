// The packed module in other runtimes than the one that runs these tests: node tests/js/runtimes.mjs ARKE_JS_SERVER RUNTIME...
//
// Each RUNTIME is a program, deno or bun or another node, that runs this file once more with only the server's address.
import assert from "node:assert/strict";
import process from "node:process";
import { Ws } from "../../client-js/dist/arke.mjs";

const [first, ...runtimes] = process.argv.slice(2);

/** What every runtime must be able to do, with the WebSocket that it brings; Node before 22 has the package ws. */
async function use(url) {
    const WebSocket = globalThis.WebSocket ?? (await import("../support/program.mjs")).WebSocket;
    const ws = new Ws(url, { WebSocket, minDelay: 10, query: { token: "abc" }, protocols: () => ["token.abc"] });
    const once = (add, ...args) => new Promise(resolve => ws[add](...args, (...values) => resolve(values)));
    const [connected, again, ended] = [once("OnConnect"), once("OnReconnect"), new Promise(resolve =>
        ws.OnDisconnect((code, reason, willReconnect) => { if (!willReconnect) resolve(); }))];
    ws.Emit("chat", "early");
    assert.deepEqual(await once("On", "chat"), ["early"]);
    await connected;
    assert.equal(ws.protocol, "arke.v1");
    assert.equal(await ws.Ask("buy", { item: "tea", count: 6 }), 42);
    await assert.rejects(ws.Ask("buy", { item: "moon", count: 6 }), { code: "refused", message: "sold out" });
    assert.deepEqual([...await ws.Ask("bytes", new Uint8Array([0, 255]))], [0, 255]);
    assert.deepEqual([...await ws.Ask("bytes", new Blob([new Uint8Array([7])]))], [7]);
    ws.On("double", async n => n * 2);
    ws.Emit("ask me", { event: "double", value: 21, timeout: 5000 });
    assert.deepEqual(await once("On", "asked"), ["answer 42"]);
    ws.Emit("cut");
    await again;
    await ws.Join("news");
    ws.Disconnect();
    await ended;
}

if (runtimes.length === 0) {
    await use(first);
    console.log("done"); // and the process ends by itself: nothing keeps it
} else {
    const { execFile } = await import("node:child_process");
    const { promisify } = await import("node:util");
    const { fileURLToPath } = await import("node:url");
    const { RestartableServer } = await import("../support/restartable_server.mjs");
    const server = new RestartableServer(first);
    await server.start();
    try {
        for (const runtime of runtimes) {
            const before = /deno[^/]*$/.test(runtime) ? ["run", "--allow-all", "--no-lock"] : [];
            const args = [...before, fileURLToPath(import.meta.url), server.url];
            const { stdout } = await promisify(execFile)(runtime, args, { timeout: 90_000 });
            assert.equal(stdout.trim(), "done");
            console.log(`ok: ${runtime}`);
        }
    } finally {
        await server.signal("SIGKILL");
    }
}
