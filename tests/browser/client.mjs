// Chromium with the client that the server hands out: what only a browser does.
//
//   node tests/browser/client.mjs ARKE_JS_SERVER
//
// First: npm ci --ignore-scripts, in this folder and in tests/peers. CHROMIUM names another browser than /usr/bin/chromium.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";
import { within } from "../support/program.mjs";
import { goThrough, table } from "../support/request_table.mjs";
import { RestartableServer } from "../support/restartable_server.mjs";

const { WebSocketServer } = createRequire(new URL("../peers/package.json", import.meta.url))("ws");

const [binary] = process.argv.slice(2);
const path = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
const server = new RestartableServer(binary);
const errors = []; // what pages throw
let browser;

/** A page of the server's own address, with its script tag. */
async function open() {
    const context = await browser.newContext();
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    page.on("pageerror", error => errors.push(error.message));
    const origin = server.url.replace("ws://", "http://").replace("/ws", "");
    await page.route("**/arke.mjs", route => route.fulfill({
        contentType: "text/javascript", body: readFileSync(new URL("../../client-js/dist/arke.mjs", import.meta.url)),
    }));
    await page.goto(`${origin}/arke.js`); // any page that the server itself hands out
    await page.setContent('<!doctype html><title>Arke</title>');
    await page.addScriptTag({ url: "/arke.js" });
    await page.evaluate(() => {
        /** The next time that a listener of that name is called, with what. */
        globalThis.next = (ws, add, ...args) => new Promise(resolve => {
            const off = ws[add](...args, (...values) => {
                off?.();
                resolve(values);
            });
        });
    });
    return page;
}

const checks = {
    async "the script tag gives a Ws that speaks arke.v1: events, requests both ways, bytes, rooms"() {
        const page = await open();
        assert.deepEqual(await page.evaluate(async () => {
            const ws = new Ws("/ws");
            const chat = next(ws, "On", "chat");
            ws.Emit("chat", "early");
            const heard = [await chat, ws.protocol];
            heard.push(await ws.Ask("buy", { item: "tea", count: 6 }));
            heard.push(await ws.Ask("buy", { item: "moon", count: 1 }).catch(error => [error instanceof Ws.Error, error.code, error.message]));
            heard.push([...await ws.Ask("bytes", new Uint8Array([0, 255]))]);
            ws.On("double", async n => n * 2);
            ws.Emit("ask me", { event: "double", value: 21, timeout: 5000 });
            heard.push(await next(ws, "On", "asked"));
            await ws.Join("news");
            ws.Emit("tell", "hello");
            heard.push(await next(ws, "On", "told"));
            ws.Disconnect();
            heard.push(await next(ws, "OnDisconnect"));
            return heard;
        }), [["early"], "arke.v1", 42, [true, "refused", "sold out"], [0, 255], ["answer 42"], ["hello"], [1005, "", false]]);
    },

    async "requests in both directions end as the table says"() {
        const page = await open();
        assert.deepEqual(await page.evaluate(
            `(${goThrough})(${JSON.stringify(table)}, Ws, new Ws("/ws"))`), table.ends);
        assert.deepEqual(errors.splice(0), ["secret"]);
    },

    async "compression is agreed on, and what is said comes through it in both directions"() {
        const page = await open();
        assert.deepEqual(await page.evaluate(async () => {
            const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws");
            await new Promise(resolve => { socket.onopen = resolve; });
            const extensions = socket.extensions;
            socket.close();
            const ws = new Ws("/ws");
            const bytes = new TextEncoder().encode("all quiet on the wire; ".repeat(1000));
            const back = [];
            for (let n = 0; n !== 5; ++n) back.push(new TextDecoder().decode(await ws.Ask("bytes", bytes)) === new TextDecoder().decode(bytes));
            ws.Disconnect();
            return [extensions, back];
        }), ["permessage-deflate", [true, true, true, true, true]]);
        await page.context().close();
    },

    async "the same as a module"() {
        const page = await open();
        assert.equal(await page.evaluate(async () => {
            const { Ws, WsError } = await import("/arke.mjs");
            const ws = new Ws("/ws");
            return (await ws.Ask("buy", { item: "moon", count: 1 }).catch(error => error)) instanceof WsError;
        }), true);
    },

    async "Blobs keep their place among other messages, and in requests"() {
        const page = await open();
        assert.deepEqual(await page.evaluate(async () => {
            const ws = new Ws("/ws");
            const heard = [];
            const all = new Promise(resolve => ws.OnMessage(message => {
                heard.push(typeof message === "string" ? message : new TextDecoder().decode(message));
                if (message === "last") resolve();
            }));
            ws.EmitMessage(new Blob(["waits"])); // for the connection
            await next(ws, "OnConnect");
            ws.EmitMessage("first");
            ws.EmitMessage(new Blob(["second"]));
            ws.EmitMessage(new Uint8Array([65, 66]));
            ws.EmitMessage("last");
            await all;
            heard.push([...await ws.Ask("bytes", new Blob([new Uint8Array([7, 8])]))]);
            return heard;
        }), ["waits", "first", "second", "AB", "last", [7, 8]]);
    },

    async "a server that is killed and comes back: the page does too, and says once what it had to say"() {
        const page = await open();
        await page.evaluate(async () => {
            globalThis.ws = new Ws("/ws", { minDelay: 50, maxDelay: 500 });
            await next(ws, "OnConnect");
            globalThis.lost = next(ws, "OnDisconnect");
            globalThis.back = next(ws, "OnReconnect");
        });
        await server.signal("SIGKILL");
        assert.deepEqual(await page.evaluate(() => lost), [1006, "", true]);
        await page.evaluate(() => {
            ws.Emit("count", "meanwhile");
            ws.Emit("count", "too late", { ttl: 0 });
        });
        await server.start();
        await page.evaluate(() => back);
        assert.equal(await page.evaluate(() => ws.Ask("text", "after it")), "after it");
        await server.signal("SIGTERM"); // and all that it has printed is read
        assert.deepEqual(server.counted, ["meanwhile"]);
        await server.start();
    },

    async "a server that says nothing any more is noticed"() {
        const page = await open();
        await page.evaluate(async () => {
            // The timeout is that of its handshakes too: longer than a machine stands still.
            globalThis.ws = new Ws("/ws", { idle: 100, timeout: 5000, minDelay: 50, maxDelay: 200 });
            await next(ws, "OnConnect");
            globalThis.lost = next(ws, "OnDisconnect");
            globalThis.back = next(ws, "OnReconnect");
        });
        await server.signal("SIGSTOP");
        try {
            assert.deepEqual(await page.evaluate(() => lost), [1006, "the server is silent", true]);
        } finally {
            await server.signal("SIGCONT");
        }
        await page.evaluate(() => back);
    },

    async "when the network is back the page does not wait for its delay"() {
        const page = await open();
        await page.evaluate(async () => {
            // Far longer than the test is given; once it is online, it comes at once.
            globalThis.ws = new Ws("/ws", { reconnect: () => 3_600_000 });
            await next(ws, "OnConnect");
            globalThis.lost = next(ws, "OnDisconnect");
            globalThis.back = next(ws, "OnReconnect");
            ws.Emit("cut");
            await lost;
        });
        assert.equal(await page.evaluate(() => ws.state), "waiting");
        await page.context().setOffline(true);
        await page.context().setOffline(false);
        assert.deepEqual(await page.evaluate(() => back), [1]);
    },

    async "with a server of 2016 the handshake fails, and the second try speaks its protocol"() {
        const handshakes = [];
        const old = new WebSocketServer({ port: 0, host: "127.0.0.1", handleProtocols: () => false });
        old.on("connection", (socket, request) => {
            handshakes.push(request.headers["sec-websocket-protocol"] ?? "none");
            socket.on("message", data => socket.send(String(data)));
        });
        try {
            const page = await open();
            assert.deepEqual(await page.evaluate(async port => {
                const ws = new Ws(`ws://127.0.0.1:${port}`);
                const heard = [];
                ws.OnDisconnect(code => heard.push(code));
                ws.Emit("chat", { five: 5 });
                heard.push(...await next(ws, "On", "chat"), ws.protocol);
                heard.push(await ws.Ask("chat").catch(error => error.code));
                return heard;
            }, old.address().port), [{ five: 5 }, "iris", "unsupported"]);
            assert.deepEqual(handshakes, ["arke.v1", "none"]);
        } finally {
            for (const socket of old.clients) socket.terminate();
            old.close();
        }
    },
};

const alarm = setTimeout(() => {
    console.error("not done after 280 s");
    process.exit(1);
}, 280_000);

try {
    if (!path) throw new Error("there is no Chromium: on Debian, apt-get install chromium; or set CHROMIUM to its path");
    await server.start();
    browser = await chromium.launch({
        executablePath: path,
        args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync"],
        timeout: 30_000,
    });
    for (const [what, check] of Object.entries(checks)) {
        await within(30_000, what, check());
        console.log(`ok: ${what}`);
    }
    assert.deepEqual(errors, []);
} catch (error) {
    console.error(error);
    process.exitCode = 1;
} finally {
    await browser?.close();
    await server.signal("SIGKILL");
    clearTimeout(alarm);
}
